"""Make the synthetic golden bundles: a real software TPM, its real key and quote, entries extended as the kernel would.

    python tests/golden/make_bundle.py

writes `bundle-synthetic` (RSASSA) and `bundle-synthetic-ecdsa` beside itself. Needs swtpm, swtpm-tools and tpm2-tools.
Keys are new each time, so the files change each time; what they must say does not.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

import evidence

from testbed import shell

HERE = Path(__file__).parent
NONCE = bytes.fromhex("d1ce5eed00112233445566778899aabb")
ATTESTED_TAIL = 2  # entries that the log has run ahead of the quote


@contextmanager
def software_tpm(directory: Path) -> Iterator[dict[str, str]]:
    """Run a fresh TPM; yield the environment by which tpm2-tools find it."""
    state, socket = directory / "state", directory / "socket"
    state.mkdir()
    setup: list[str | Path] = ["swtpm_setup", "--tpm2", "--tpmstate", state, "--pcr-banks", "sha256", "--overwrite"]
    shell.run(setup, timeout=60)
    server = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "startup-clear"]
    server += ["--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl"]
    process = subprocess.Popen(server, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield {"TPM2TOOLS_TCTI": f"swtpm:path={socket}"}
    finally:
        process.terminate()
        process.wait(timeout=10)


def make(name: str, algorithm: str, scheme: str) -> None:
    log = evidence.sample_log()
    attested = b"".join(log)
    ahead = [evidence.ima_ng(f"/usr/bin/later-{n}", b"later") for n in range(ATTESTED_TAIL)]
    with tempfile.TemporaryDirectory() as scratch, software_tpm(Path(scratch)) as env:
        out = HERE / name
        out.mkdir(exist_ok=True)

        def tpm2(tool: str, *words: str) -> None:
            shell.run([f"tpm2_{tool}", *words], timeout=60, cwd=Path(scratch), env=env)
            shell.run(["tpm2_flushcontext", "-t"], timeout=60, env=env)  # a TPM has three places for keys

        tpm2("createek", "-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub")
        created = ["-G", algorithm, "-g", "sha256", "-s", scheme, "-u", str(out / "ak.pub"), "-n", "ak.name"]
        tpm2("createak", "-C", "ek.ctx", "-c", "ak.ctx", *created)
        tpm2("readpublic", "-c", "ek.ctx", "-q", str(out / "ek.qualified-name"))
        tpm2("readpublic", "-c", "ak.ctx", "-f", "pem", "-o", str(out / "ak.pem"))
        for one in log:
            tpm2("pcrextend", f"{one[0]}:sha256={extension(one).hex()}")
        quoted = ["-m", str(out / "quote.attest"), "-s", str(out / "quote.sig")]
        tpm2("quote", "-c", "ak.ctx", "-l", "sha256:10,11", "-q", NONCE.hex(), "-g", "sha256", *quoted)
    values = {pcr: evidence.extended(attested, pcr) for pcr in (10, 11)}
    attest, sig = (out / "quote.attest").read_bytes(), (out / "quote.sig").read_bytes()
    for file in out.iterdir():
        file.chmod(0o644)
    evidence.write_bundle(out, attest=attest, sig=sig, log=attested + b"".join(ahead), nonce=NONCE, values=values)


def extension(entry: bytes) -> bytes:
    """SHA-256 of the template data, which are the last field of the entry."""
    name_end = 28 + int.from_bytes(entry[24:28], "little")
    return hashlib.sha256(entry[name_end + 4 :]).digest()


if __name__ == "__main__":
    make("bundle-synthetic", "rsa", "rsassa")
    make("bundle-synthetic-ecdsa", "ecc", "ecdsa")
