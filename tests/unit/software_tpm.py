"""A software TPM for tests: swtpm with an endorsement key that a CA of its own certified, and a log that it fits."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed import shell
from testbed.guest import Completed
from testbed.lab.machines import swtpm

NEEDED = ("swtpm", "swtpm_setup", "swtpm_localca", "tpm2_quote", "tpm2_createek")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareTpm:
    """A running TPM; ``environment``: how tpm2-tools find it. ``authority``: the certificate of who certified it."""

    environment: dict[str, str]
    authority: Path
    state: Path

    def run(self, *argv: str | Path, check: bool = True, **more: str) -> Completed:
        return shell.run(argv, timeout=120, check=check, env=self.environment | more)

    def extend(self, entries: Sequence[bytes]) -> None:
        """Extend the bank sha256 with entries of a binary log, as the kernel does. No template `ima`."""
        for one in entries:
            data = one[28 + int.from_bytes(one[24:28], "little") + 4 :]
            digest = hashlib.sha256(data).hexdigest() if any(one[4:24]) else "ff" * 32
            self.run("tpm2_pcrextend", f"{one[0]}:sha256={digest}")


@contextmanager
def software_tpm(directory: Path, banks: Sequence[str] = ("sha256",)) -> Iterator[SoftwareTpm]:
    """Hold a new TPM; skip the test where its programs are missing."""
    if missing := [name for name in NEEDED if shell.which(name) is None]:
        pytest.skip(f"{', '.join(missing)}: not on this machine")
    # A socket's path has at most 107 bytes, and pytest's directories are longer than that.
    state, authority = directory / "state", swtpm.CertificateAuthority(directory=directory / "ca")
    swtpm.manufacture(state, authority, "test", banks)
    home = Path(tempfile.mkdtemp(prefix="testbed-"))
    socket = home / "s"
    argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "startup-clear"]
    argv += ["--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=shell.environment())
    try:
        deadline = time.monotonic() + 10
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        found = {"TPM2TOOLS_TCTI": f"swtpm:path={socket}"}
        yield SoftwareTpm(environment=found, authority=authority.certificates[1], state=state)
    finally:
        process.terminate()
        process.wait(timeout=10)
        shutil.rmtree(home, ignore_errors=True)
