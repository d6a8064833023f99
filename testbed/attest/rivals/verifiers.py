"""What other people's verifiers say about the same evidence: partners for comparison, not judges.

Interface, stable::

    available(*, keylime_python=None) -> tuple[str, ...]
    version(name, *, keylime_python=None) -> str
    judge(name, directory, *, ak, nonce, pcrs="sha256:10,11", values=None, keylime_python=None) -> Opinion
    Opinion(rival, verdict, detail)

``verdict`` is ``accepts``, ``rejects``, ``crashed`` (a signal, a traceback, still running at the deadline), ``absent``
(not on this machine) or ``cannot`` (it cannot read evidence of this form; ``detail`` says why). A rival's failure never
raises an exception. Each checks only a part: ``SEES`` says whether it is the quote or the log; ``accepts`` says nothing
about the other part.
"""

from __future__ import annotations

import enum
import functools
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import shell
from testbed.attest import quote, tpm
from testbed.attest.bundle import LIMITS
from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.hashes import BANKS
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import Entry, read_entries
from testbed.attest.quote import Selection
from testbed.errors import DeadlineExceeded, HostError
from testbed.guest import Completed

SEES = {"evmctl": "log", "tpm2_checkquote": "quote", "keylime": "log"}
KEYLIME_PYTHON = "TESTBED_KEYLIME_PYTHON"  # environment variable: a Python that has Keylime, if this one does not
KEYLIME_PCR = 10  # keylime.config.IMA_PCR: the only PCR whose entries it reads
DEADLINE_SECONDS = 60.0
MEMORY_BYTES = (
    6 << 30
)  # of addresses: an announced length of 4 GiB must fail in the rival, not fill this machine's memory
_DRIVER = Path(__file__).with_name("ask_keylime.py")
_PCRS = 24
_KEYLIME_TEMPLATES = (b"ima", b"ima-ng", b"ima-sig", b"ima-buf")  # keylime.ima.ast
_DETAIL = 200


class Says(enum.StrEnum):
    """How a rival judged the evidence, or why it did not."""

    ACCEPTS = "accepts"
    REJECTS = "rejects"
    CRASHED = "crashed"
    ABSENT = "absent"
    CANNOT = "cannot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What one rival says about one bundle; ``detail`` is one line, in the rival's own words where it printed any."""

    rival: str
    verdict: Says
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One question. ``values``: the PCRs' values in hex, as a user would give them to the tool."""

    directory: Path
    scratch: Path
    ak: bytes
    nonce: bytes
    demanded: Selection
    values: Mapping[int, str]
    python: str


class _NoSuchForm(Exception):
    """The evidence has no form that the rival can read."""


def available(*, keylime_python: str | None = None) -> tuple[str, ...]:
    """Return the rivals that are on this machine. ``keylime_python``: a Python that has Keylime."""
    python = _python(keylime_python)
    return tuple(name for name in SEES if _version(name, python))


def version(name: str, *, keylime_python: str | None = None) -> str:
    """Return a rival's own version, empty if it is not on this machine."""
    return _version(name, _python(keylime_python))


def judge(
    name: str,
    directory: Path,
    *,
    ak: bytes,
    nonce: bytes,
    pcrs: str = "sha256:10,11",
    values: Mapping[int, str] | None = None,
    keylime_python: str | None = None,
) -> Opinion:
    """Ask one rival about the bundle in ``directory``.

    ``ak``, ``nonce``, ``pcrs``: as for ``verify``. ``values``: the PCR values in hex, such as ``Verdict.pcrs``, for a
    bundle that has no ``pcr_values`` of its own. Raises ``SpecError`` for a wrong key or selection, nothing else.
    """
    demanded, _ = quote.parse_selection(pcrs), tpm.load_key(ak)
    python = _python(keylime_python)
    if not _version(name, python):
        return Opinion(rival=name, verdict=Says.ABSENT, detail="not on this machine")
    claimed = _told(directory)
    with tempfile.TemporaryDirectory(prefix="testbed-rival-") as scratch:
        case = _Case(
            directory=directory.resolve(),
            scratch=Path(scratch),
            ak=ak,
            nonce=nonce,
            demanded=demanded,
            values=dict(values or {}) if claimed is None else claimed,
            python=python,
        )
        try:
            verdict, detail = _ASK[name](case)
        except _NoSuchForm as error:
            verdict, detail = Says.CANNOT, str(error)
        except DeadlineExceeded:
            verdict, detail = Says.CRASHED, f"no end after {DEADLINE_SECONDS:g} s"
        # The same evidence in another directory must give the same text.
        detail = detail.replace(scratch, "SCRATCH").replace(str(case.directory), "BUNDLE")
        return Opinion(rival=name, verdict=verdict, detail=detail[:_DETAIL])


def ascii_log(log: bytes) -> bytes:
    """Return the log as ``ascii_runtime_measurements`` would show it. Raises ``BadEvidence`` if it has no text form.

    As ``ima_ascii_measurements_show`` (security/integrity/ima/ima_fs.c): a name is shown as it is, newlines too.
    """
    return b"".join(_ascii_line(entry) for entry in read_entries(log))


def keylime_policy(log: bytes) -> dict[str, Any]:
    """Return a runtime policy (version 1) that lists everything in the log, so that only its authenticity is judged."""
    listed: dict[str, dict[str, list[str]]] = {"digests": {}, "ima-buf": {}}
    for entry in read_entries(log):
        try:
            fields = parse_fields(entry)
        except UnsupportedEvidence:
            continue  # it cannot be listed
        kind = "digests" if fields.buf is None else "ima-buf"
        listed[kind].setdefault(fields.name.decode(errors="replace"), []).append(fields.digest.hex())
    rules = {"ignored_keyrings": ["*"], "log_hash_alg": "sha1", "dm_policy": None}
    head: dict[str, Any] = {"meta": {"version": 1, "generator": 0}, "release": 0, "excludes": [], "keyrings": {}}
    return {**head, **listed, "ima": rules, "verification-keys": ""}


def evmctl_pcrs(values: Mapping[int, str], size: int) -> str:
    """Return a PCR file for ``evmctl --pcrs``: sysfs form, every PCR in order, since it counts lines."""
    return "".join(f"PCR-{pcr:02}: {values.get(pcr, '00' * size)}\n" for pcr in range(_PCRS))


def keylime_argv(python: str, bank: str, value: str, log: Path, policy: Path) -> list[str]:
    """Return the command that asks Keylime; ``-I`` keeps modules beside the driver, and the user's own, out of it."""
    return [python, "-I", str(_DRIVER), bank, value, str(log), str(policy)]


def _ask_evmctl(case: _Case) -> tuple[Says, str]:
    if not set(case.demanded.pcrs) <= case.values.keys():
        raise _NoSuchForm("no PCR values: neither in bundle.json nor given")
    pcrs = case.scratch / "pcrs"
    pcrs.write_text(evmctl_pcrs(case.values, BANKS[case.demanded.bank]), encoding="ascii")
    argv = ["evmctl", "ima_measurement", "--pcrs", f"{case.demanded.bank},{pcrs}", str(_file(case, "ima.bin"))]
    return _read(_limited(argv))


def _ask_checkquote(case: _Case) -> tuple[Says, str]:
    """With PCR values, they are compared with the quote too; ``-l`` does nothing else."""
    ak, pcrs = case.scratch / "ak", case.scratch / "pcrs"
    ak.write_bytes(case.ak)
    attest, sig = _file(case, "quote.attest"), _file(case, "quote.sig")
    argv = ["tpm2_checkquote", "-Q", "-u", str(ak), "-m", str(attest), "-s", str(sig)]
    argv += ["-q", case.nonce.hex(), "-g", tpm.load_key(case.ak).scheme_hash or "sha256"]
    if set(case.demanded.pcrs) <= case.values.keys():
        pcrs.write_bytes(b"".join(bytes.fromhex(case.values[pcr]) for pcr in case.demanded.pcrs))
        argv += ["-f", str(pcrs), "-l", str(case.demanded)]
    return _read(_limited(argv))


def _ask_keylime(case: _Case) -> tuple[Says, str]:
    if KEYLIME_PCR not in case.values:
        raise _NoSuchForm(f"no value of PCR {KEYLIME_PCR}: neither in bundle.json nor given")
    log, policy = case.scratch / "log", case.scratch / "policy.json"
    try:
        data = _file(case, "ima.bin").read_bytes()
        log.write_bytes(ascii_log(data))
        policy.write_text(json.dumps(keylime_policy(data)), encoding="ascii")
    except BadEvidence as error:
        raise _NoSuchForm(f"it reads only the text form, which this log does not have: {error}") from error
    done = _limited(keylime_argv(case.python, case.demanded.bank, case.values[KEYLIME_PCR], log, policy))
    try:
        answer = json.loads(done.out)
        return Says(answer["verdict"]), answer["detail"]
    except (ValueError, KeyError, TypeError):
        return Says.CRASHED, _last_line(done)


_ASK: Mapping[str, Callable[[_Case], tuple[Says, str]]] = {
    "evmctl": _ask_evmctl,
    "tpm2_checkquote": _ask_checkquote,
    "keylime": _ask_keylime,
}


def _file(case: _Case, name: str) -> Path:
    """Return a file of the bundle. Raises for a FIFO or a missing file: waiting would say nothing about a rival."""
    path = case.directory / name
    if not path.is_file():
        raise _NoSuchForm(f"{name} is not a plain file")
    return path


def _limited(argv: list[str]) -> Completed:
    """Run a program that reads hostile bytes: bounded in memory and time, without a core file."""
    limits = ["prlimit", f"--as={MEMORY_BYTES}", f"--cpu={int(DEADLINE_SECONDS)}", "--core=0"]
    return shell.run([*limits, *argv], timeout=DEADLINE_SECONDS, check=False)


def _read(done: Completed) -> tuple[Says, str]:
    if done.code < 0:
        return Says.CRASHED, f"signal {-done.code}: {signal.strsignal(-done.code)}"
    if done.err.startswith(b"prlimit:"):
        raise _NoSuchForm(_last_line(done))
    return (Says.REJECTS if done.code else Says.ACCEPTS), _last_line(done)


def _last_line(done: Completed) -> str:
    """Return the reason; the ``errno`` text at the end of evmctl's message is left over from an earlier call."""
    lines = [line.strip() for line in shell.tail(done).splitlines() if line.strip() and not line.startswith("errno:")]
    return lines[-1] if lines else f"exit status {done.code}"


def _python(given: str | None) -> str:
    return given or os.environ.get(KEYLIME_PYTHON) or sys.executable


@functools.cache
def _version(name: str, python: str) -> str:
    """Return the version, empty if the rival, or ``prlimit`` (util-linux) that limits it, cannot run."""
    if name not in SEES or not shell.which("prlimit"):
        return ""
    argv = [python, "-I", str(_DRIVER), "--probe"] if name == "keylime" else [name, "--version"]
    try:
        done = _limited(argv) if shell.which(argv[0]) else None
        if done is None or done.code:
            return ""
        answer = json.loads(done.out) if name == "keylime" else {"verdict": Says.ACCEPTS, "detail": _own_version(done)}
    except (HostError, DeadlineExceeded, ValueError):
        return ""
    return str(answer["detail"]) if answer["verdict"] == Says.ACCEPTS else ""


def _own_version(done: Completed) -> str:
    """``evmctl 1.4`` or ``tool="tpm2_checkquote" version="5.4" ...``."""
    words = done.text.replace('"', " ").split()
    return next((word for word in words if word[:1].isdigit()), "unknown")


def _told(directory: Path) -> dict[int, str] | None:
    """Return the bundle's own PCR values, as far as they can be read: a user would paste them without checking."""
    path = directory / "bundle.json"
    try:
        small = path.is_file() and path.stat().st_size <= LIMITS["bundle.json"]
        values = json.loads(path.read_bytes())["pcr_values"] if small else None
        return None if values is None else {int(pcr): bytes.fromhex(value).hex() for pcr, value in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
        return None


def _ascii_line(entry: Entry) -> bytes:
    head = f"{entry.pcr:2d} {entry.digest.hex()} ".encode() + entry.template + b" "
    if entry.template not in _KEYLIME_TEMPLATES:
        return head + entry.data.hex().encode() + b"\n"  # no parser there will take it; its line must still be there
    try:
        fields = parse_fields(entry)
    except UnsupportedEvidence as error:
        raise BadEvidence(entry.where, error.expected, error.got) from error
    old = entry.template == b"ima"
    shown = [(fields.digest.hex() if old else f"{fields.algorithm}:{fields.digest.hex()}").encode(), fields.name]
    if entry.template in (b"ima-sig", b"ima-buf"):
        shown.append((fields.sig if fields.buf is None else fields.buf).hex().encode())
    return head + b" ".join(shown) + b"\n"
