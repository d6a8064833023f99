"""What usually causes a finding when nobody has attacked anything: a note for each such kind."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.attest.finding import FindingKind
from testbed.attest.verdict import Verdict

_USUAL = {
    FindingKind.REPLAY_MISMATCH: (
        "the log was read before the quote, or is of another boot; "
        "IMA or the measurer extends a PCR that was not quoted (--pcrs); "
        "the kernel extends this bank with a padded SHA-1 (before 5.8: --padded-sha1); "
        "firmware or a boot loader extended the PCR before the log begins (--start)"
    ),
    FindingKind.LOG_MISSING: (
        "firmware or a boot loader extended the PCR, and the log has no entry of it (--start); "
        "the log was filtered by PCR"
    ),
    FindingKind.NO_MEASUREMENT: (
        "the kernel has no IMA, or started without a TPM; IMA extends another PCR (--ima-pcr); "
        "the wrong PCRs were quoted"
    ),
    FindingKind.QUOTE_SIGNATURE: "the key is of another machine, or of another enrolment of this one",
    FindingKind.QUOTE_NONCE: "the bundle is an older one, or the nonce was hashed or encoded before the TPM got it",
}


def cause_notes(verdict: Verdict) -> Iterator[str]:
    """Yield a note for each kind of finding that has usual causes."""
    for kind in sorted(verdict.kinds & _USUAL.keys()):
        yield f"if nobody attacked, usual causes of {kind}: {_USUAL[kind]}"
    if verdict.entries and not any(verdict.attested.values()):
        yield "no entry of the log is attested: is it the log of this machine and this boot?"
