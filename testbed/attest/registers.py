"""The registers that a quote covers: what each holds at the start of the machine, and who can reset it.

Source: TCG PC Client Platform TPM Profile, "PCR Attributes" and "PCR Initial and Reset Values". Only PCRs are known
today. Other registers that can be extended and quoted (NV indices, the RTMRs of TDX) need a row of their own here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from testbed.attest.finding import Finding, FindingKind
from testbed.attest.hashes import BANKS

PCRS = 24
_ANYBODY = "anybody who can use the TPM"
_DYNAMIC_START = "a new dynamic launch of the processor (locality 4)"
_DYNAMIC_OS = "the dynamically launched kernel or a new dynamic launch (localities 2 and 4)"
# Who can reset a PCR while the machine runs; nobody can reset those that are not here.
_RESETTERS = {16: _ANYBODY, 23: _ANYBODY}
_RESETTERS |= dict.fromkeys(range(17, 20), _DYNAMIC_START) | dict.fromkeys(range(20, 23), _DYNAMIC_OS)
# PCRs of the dynamic root of trust start as ones; a log cannot begin there from zero.
_ONES = range(17, 23)


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One register of a TPM bank.

    ``start``: the bytes that it holds after a start of the machine. ``reset_by``: who can reset it while the machine
    runs, so that it forgets its past; empty if nobody can.
    """

    bank: str
    index: int
    start: bytes
    reset_by: str = ""

    def __str__(self) -> str:
        return f"PCR {self.index}"


def pcr_register(index: int, bank: str) -> Register:
    """Return the register of PCR ``index`` (0 to 23) in ``bank``."""
    start = (b"\xff" if index in _ONES else b"\0") * BANKS[bank]
    return Register(bank=bank, index=index, start=start, reset_by=_RESETTERS.get(index, ""))


def resettable_findings(registers: Iterable[Register], accepted: Mapping[int, str]) -> tuple[list[Finding], list[str]]:
    """Return a finding for each register that can be reset, and a note for those that are accepted.

    ``accepted``: by PCR, the reason why it is relied on nevertheless.
    """
    findings, notes = [], []
    for register in registers:
        if not register.reset_by:
            continue
        if register.index in accepted:
            notes.append(f"{register} can be reset by {register.reset_by}; accepted: {accepted[register.index]}")
            continue
        expected = "a register that nobody can reset while the machine runs (PCRs 0 to 15)"
        got = (
            f"one that {register.reset_by} can reset, so that entries can be left out; "
            f"if this cannot happen here, give --allow-resettable {register.index}=REASON"
        )
        findings.append(Finding(kind=FindingKind.REGISTER_RESETTABLE, where=f"{register}", expected=expected, got=got))
    return findings, notes
