"""The only module that starts programs on the host: fixed environment, no shell, logged so that it can be pasted."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from testbed.errors import CommandError, DeadlineExceeded, HostError
from testbed.guest import Completed

log = logging.getLogger(__name__)

# Programs print in one language, and no setting of the user changes what they do. Proxies and package sources stay,
# because this machine may need them to reach its registries.
_KEPT = (
    "PATH",
    "HOME",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE",
    "APT_CONFIG",
)
_TAIL = 20


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of every program that the testbed starts."""
    env = {key: os.environ[key] for key in _KEPT if key in os.environ}
    if not os.path.isdir(env.get("TMPDIR", "")):  # noqa: PTH112 - it may be any text; without it programs use /tmp
        env.pop("TMPDIR", None)
    env |= {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
    env["PATH"] = f"{env.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
    return env | {"LC_ALL": "C.UTF-8"} | dict(extra or {})


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    check: bool = True,
    input: bytes | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Completed:
    """Run a program to its end; at the deadline, or when we are interrupted, its whole process group is killed.

    Raises ``HostError`` if there is no such program, ``CommandError`` if ``check`` and its status is not 0,
    ``DeadlineExceeded`` after ``timeout`` seconds.
    """
    words = tuple(str(word) for word in argv)
    log.debug("$ %s", shlex.join(words))
    start = time.monotonic()
    process = _spawn(words, input is not None, cwd, env)
    try:
        out, err = process.communicate(input, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"{words[0]}: did not finish within {timeout:g} s: {shlex.join(words)}") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    done = Completed(argv=words, code=process.returncode, out=out, err=err, seconds=time.monotonic() - start)
    if check and done.code:
        raise CommandError(
            f"exit status {done.code}: {shlex.join(words)}\n{tail(done)}", "run the command by hand to see more"
        )
    return done


def interact(argv: Sequence[str | Path]) -> int:
    """Give the user's terminal to a program until it ends; return its status."""
    return subprocess.run([str(word) for word in argv], check=False, env=os.environ | environment()).returncode


def which(program: str) -> str | None:
    """Return the path of ``program`` in the PATH that ``run`` uses."""
    return shutil.which(program, path=environment()["PATH"])


def tail(done: Completed, lines: int = _TAIL) -> str:
    """Return the last lines of what a program said, errors after output."""
    said = (done.out + done.err).decode(errors="backslashreplace").splitlines()
    return "\n".join(said[-lines:])


def _spawn(
    words: tuple[str, ...], feed: bool, cwd: Path | None, env: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment(env),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        hint = "`make setup` installs what is needed; `testbed doctor` lists what is missing"
        raise HostError(f"no program {words[0]!r} on this machine", hint) from error
