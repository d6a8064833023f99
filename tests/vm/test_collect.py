"""`testbed collect` on a machine as on a foreign one: nothing reaches it but the script and the archives.

The machine measures every program that starts, so the script's own programs make the log grow while it quotes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from booted import Booted
from click.testing import CliRunner

from testbed.attest.enrol import exchange
from testbed.attest.finding import FindingKind
from testbed.attest.verify import verify
from testbed.commands.collect import command

PLACE = "/root/foreign"
POLICY = b"measure func=BPRM_CHECK\nmeasure func=MMAP_CHECK mask=MAY_EXEC\n"
SECONDS = 300
# Programs that nobody has measured, for as long as the file is there.
BUSY = f"""
mkdir -p {PLACE}/busy
touch {PLACE}/go
for n in $(seq 1 2000); do
  [ -e {PLACE}/go ] || break
  cp /usr/bin/true {PLACE}/busy/one && printf $n >>{PLACE}/busy/one && {PLACE}/busy/one
done
rm -r {PLACE}/busy
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign(Booted):
    def script(self, *words: str) -> str:
        done = self.guest.run(
            ("sh", "-c", f'cd {PLACE} && exec sh collect.sh "$@"', "collect", *words), timeout=SECONDS
        )
        return done.err.decode()

    def carried(self, name: str) -> Path:
        path = self.directory / name
        path.write_bytes(self.guest.get(f"{PLACE}/testbed-collect/{name}"))
        return path

    def kept(self) -> str:
        """What the TPM has: keys and sessions that are loaded, and keys that stay."""
        kinds = ("transient", "persistent", "loaded-session", "saved-session")
        return "".join(self.guest.run(("tpm2_getcap", f"handles-{kind}")).text for kind in kinds)


@pytest.fixture(scope="module")
def foreign(booted: Booted) -> Foreign:
    machine = Foreign.of(booted)
    machine.guest.put(exchange.script("sha256:10").encode(), f"{PLACE}/collect.sh")
    machine.guest.put(POLICY, f"{PLACE}/policy")
    machine.guest.run(("sh", "-c", f"cat {PLACE}/policy >/sys/kernel/security/ima/policy"))
    return machine


def call(*words: str | Path) -> str:
    done = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_foreign_machine_proves_its_key_and_its_log(foreign: Foreign) -> None:
    kept = foreign.kept()
    assert "good: tpm2-tools 5." in foreign.script("check")
    foreign.script("enrol")
    made, bundle = foreign.directory / "challenge", foreign.directory / "bundle"
    authority = foreign.machine.tpm.certificates[1]
    call("challenge", foreign.carried("enrol.tar"), "--ca", authority, "--pcrs", "sha256:10", "-o", made)
    foreign.guest.put((made / "challenge.tar").read_bytes(), f"{PLACE}/challenge.tar")
    # Started beside it, and ended with its directory.
    foreign.guest.run(("sh", "-c", f"({BUSY}) >/dev/null 2>&1 &"))
    try:
        said = foreign.script("answer", "challenge.tar")
    finally:
        foreign.guest.run(("rm", "-f", f"{PLACE}/go"))
    call("accept", made, foreign.carried("evidence.tar"), "-o", bundle)
    expected = exchange.read_challenge(made / "expected.json")
    verdict = verify(bundle, ak=(bundle / "ak.pub").read_bytes(), nonce=expected.nonce, pcrs=expected.pcrs)
    assert verdict.ok, verdict.findings
    # Whether a PCR moves during each try is chance. The unit tests have each case; here both are to be consistent.
    without = "quote is taken without the values" in said
    assert ("pcr_values" in (bundle / "bundle.json").read_text()) is not without
    assert verdict.attested[10] > 10
    assert {finding.kind for finding in verdict.findings} == ({FindingKind.UNATTESTED} if verdict.unattested else set())

    # Nobody measures but for the script itself, whose programs are known by now.
    foreign.script("quote", "ab" * 20)
    assert "pcr_values" in foreign.carried("evidence.tar").read_bytes().decode(errors="replace")
    assert foreign.kept() == kept
