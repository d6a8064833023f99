"""swtpm: manufacture of a TPM's state with an endorsement key that our own CA certified, and its process."""

from __future__ import annotations

import logging
import queue
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from testbed import shell
from testbed.errors import HostError
from testbed.files import write_plain

log = logging.getLogger(__name__)

INSTALL = "apt install swtpm swtpm-tools"
_MANUFACTURE_SECONDS = 120
_END_SECONDS = 5
_SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path has 108, one is the terminator


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuthority:
    """The CA that certifies the endorsement keys of our TPMs; its keys and certificates live in ``directory``."""

    directory: Path

    @property
    def certificates(self) -> tuple[Path, Path]:
        """The root's and the issuer's certificate (PEM); they exist once the first TPM was manufactured."""
        return self.directory / "swtpm-localca-rootca-cert.pem", self.directory / "issuercert.pem"


def manufacture(state: Path, authority: CertificateAuthority, name: str, banks: Sequence[str] = ("sha256",)) -> None:
    """Make a new TPM's state in the directory ``state``: EK (RSA 2048) with a certificate in its NV.

    ``banks``: the PCR banks that are active, by their hash (``sha1``, ``sha256``, ``sha384``, ``sha512``).
    Raises ``HostError`` if swtpm's tools are missing, ``CommandError`` if they refuse.
    """
    program = shell.which("swtpm_setup")
    if program is None:
        raise HostError("no swtpm_setup on this machine", INSTALL)
    state.mkdir(parents=True, exist_ok=True)
    config = _write_config(authority)
    shell.run(
        [
            program,
            "--tpm2",
            *("--tpmstate", state.absolute()),
            *("--config", config),
            *("--pcr-banks", ",".join(banks)),
            *("--vmid", name),
            "--create-ek-cert",
            "--overwrite",
        ],
        timeout=_MANUFACTURE_SECONDS,
    )


@contextmanager
def emulator(state: Path, control: Path, logfile: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Hold a TPM on ``state`` that listens at the Unix socket ``control``; QEMU's connection starts it.

    The socket listens before the process exists, so nobody waits for it. The process ends with QEMU's connection, with
    this context, and when we are killed.
    """
    if len(bytes(control)) > _SOCKET_PATH_BYTES:
        raise HostError(
            f"socket path of {len(bytes(control))} bytes: {control}", "at most 107: use a shorter directory"
        )
    with suppress(FileNotFoundError):
        control.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(control))
        listener.listen(1)
        process = _spawn_from_lasting_thread(_argv(state, listener.fileno(), logfile), listener.fileno())
    try:
        yield process
    finally:
        _end(process)
        with suppress(FileNotFoundError):
            control.unlink()


def copy_state(source: Path, target: Path) -> None:
    """Copy a TPM's state that no process uses."""
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".lock"))


def _argv(state: Path, control_fd: int, logfile: Path) -> list[str]:
    # --terminate: it leaves with QEMU's connection, also after SIGKILL of QEMU. --pdeathsig: it leaves with us.
    return [
        *("setpriv", "--pdeathsig", "TERM"),
        *("swtpm", "socket", "--tpm2", "--terminate"),
        *("--tpmstate", f"dir={state.absolute()}"),
        *("--ctrl", f"type=unixio,fd={control_fd}"),
        *("--log", f"file={logfile.absolute()},level=1"),
    ]


def _spawn_from_lasting_thread(argv: list[str], control_fd: int) -> subprocess.Popen[bytes]:
    # The signal of --pdeathsig fires when the *thread* that forked exits, so the thread lives as long as the process.
    started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

    def live() -> None:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(control_fd,),
                env=shell.environment(),
                start_new_session=True,
            )
        except OSError as error:
            started.put(error)
            return
        started.put(process)
        process.wait()

    threading.Thread(target=live, name="swtpm", daemon=True).start()
    process = started.get()
    if isinstance(process, OSError):
        raise HostError(f"cannot start {argv[0]}: {process}", INSTALL)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("swtpm (process %d) ignored SIGTERM for %d s: killed", process.pid, _END_SECONDS)
        process.kill()
        process.wait()


def _write_config(authority: CertificateAuthority) -> Path:
    # swtpm_setup's defaults lead to the system's CA in /var/lib; absolute paths because it changes directory.
    home = authority.directory.absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = {
        "swtpm-localca.conf": (
            f"statedir = {home}\n"
            f"signingkey = {home}/signkey.pem\n"
            f"issuercert = {home}/issuercert.pem\n"
            f"certserial = {home}/certserial\n"
        ),
        "swtpm-localca.options": "--platform-manufacturer testbed\n--platform-version 1\n--platform-model QEMU\n",
        "swtpm_setup.conf": (
            f"create_certs_tool = {shell.which('swtpm_localca') or 'swtpm_localca'}\n"
            f"create_certs_tool_config = {home}/swtpm-localca.conf\n"
            f"create_certs_tool_options = {home}/swtpm-localca.options\n"
        ),
    }
    for name, text in files.items():
        path = home / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_plain(path, text.encode())
    return home / "swtpm_setup.conf"
