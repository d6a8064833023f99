"""The acts of the demo: what is done to a machine or to a log, and which findings it must cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from testbed.attest.decoded.as_text import escaped
from testbed.attest.decoded.decode import decode
from testbed.attest.finding import FindingKind
from testbed.attest.log.ima import read_entries
from testbed.attest.verdict import Judgement, Verdict
from testbed.errors import LabError
from testbed.guest import Completed, Guest
from testbed.lab.demo.live import path_of
from testbed.lab.demo.scene import ACTORS, AGAIN, LAYERS, LIBRARY, execute, find, shown

PCR = 11
HIDDEN = "/usr/bin/sha256sum"
_EVIL = "e1" * 32
_TPM_SECONDS = 60.0
_APPEND = 'printf x >>"$1"'
_LIBRARY = ":esys:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What was done. ``seen``: commands, and what they said. ``result``: what came of it, if it is not in the log.

    ``wrong``: why the act itself did not go as it must.
    """

    seen: tuple[str, ...]
    result: str = ""
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act: ``before`` and ``after`` are a sentence each, ``done`` is its row in the last table.

    ``in_guest`` does it in a machine that has been trusted so far; it gets the guest and the image's layers there.
    ``on_log`` does it to a copy of that machine's log. ``expect``: findings that it must cause; nothing: the verdict
    must stay as it is.
    """

    title: str
    done: str
    before: str
    after: str
    expect: frozenset[FindingKind]
    in_guest: Callable[[Guest, str], Deed] | None = None
    on_log: Callable[[bytes], tuple[bytes, Deed]] | None = None


def problem(act: Act, deed: Deed, verdict: Verdict) -> str:
    """Return in which way an act did not end as it must; nothing if it did."""
    if deed.wrong:
        return deed.wrong
    found = ", ".join(sorted(kind for kind in verdict.kinds)) or "no findings"
    if not act.expect:
        return "" if verdict.ok else f"expected the verdict trusted, got {verdict.judgement}: {found}"
    if verdict.judgement is not Judgement.UNTRUSTED or not act.expect <= verdict.kinds:
        wanted = ", ".join(sorted(act.expect))
        return f"expected the verdict untrusted with {wanted}, got {verdict.judgement}: {found}"
    return ""


def change_library(guest: Guest, image: str) -> Deed:
    """Append a byte to the library that all containers run, in the image's layer; run a program again."""
    path = find(guest, image, LIBRARY)
    guest.run(("sh", "-c", _APPEND, "append", path))
    again = execute(ACTORS[0], AGAIN, "/")
    guest.run(again)
    layer = path.removesuffix(LIBRARY).rpartition("/")[2]
    return Deed(seen=(f"# printf x >>{LAYERS}/{layer[:12]}…{LIBRARY}", shown(again)))


def delete_entry(log: bytes) -> tuple[bytes, Deed]:
    """Cut the entry of a program out of a log. Raises ``LabError`` if the log has none."""
    for entry, said in zip(read_entries(log), decode(read_entries(log)), strict=True):
        if path_of(said) == HIDDEN:
            line = f"entry {said.number} is deleted: container {said.container}, {said.kind}, {said.says}"
            return log[: entry.offset] + log[entry.end :], Deed(seen=(line,))
    raise LabError(f"log: no entry of {HIDDEN}", "look at the containers: they must have run it")


def reset_register(guest: Guest, _: str) -> Deed:
    """Ask the TPM to reset the PCR. It must refuse, and the PCR must keep its value."""
    before = _register(guest)
    argv = ("tpm2_pcrreset", f"{PCR}")
    asked = guest.run(argv, timeout=_TPM_SECONDS, check=False)
    after = _register(guest)
    seen = (
        shown(argv),
        *_said(asked),
        f"exit status {asked.code}",
        f"PCR {PCR} before: {before}",
        f"PCR {PCR} after:  {after}",
    )
    if not asked.code:
        return Deed(seen=seen, wrong=f"expected that the TPM refuses to reset PCR {PCR}, but it did not")
    if before != after:
        return Deed(seen=seen, wrong=f"expected PCR {PCR} as before, {before}, got {after}")
    return Deed(seen=seen, result=f"The TPM refused, and PCR {PCR} has the value that it had.")


def extend_register(guest: Guest, _: str) -> Deed:
    """Extend the PCR by a digest for which the log has no entry."""
    before = _register(guest)
    argv = ("tpm2_pcrextend", f"{PCR}:sha256={_EVIL}")
    guest.run(argv, timeout=_TPM_SECONDS)
    after = _register(guest)
    wrong = f"expected another value of PCR {PCR}, got the same: {after}" if before == after else ""
    return Deed(seen=(shown(argv), f"PCR {PCR} before: {before}", f"PCR {PCR} after:  {after}"), wrong=wrong)


def _register(guest: Guest) -> str:
    """Return the value of the PCR in hex, as the TPM says it."""
    said = guest.run(("tpm2_pcrread", f"sha256:{PCR}"), timeout=_TPM_SECONDS).text
    value = said.rpartition("0x")[2].strip()
    if len(value) != 64:
        raise LabError(f"tpm2_pcrread: expected a value of 32 bytes, got {said[:200]!r}", "look at the guest's TPM")
    return value.lower()


def _said(done: Completed) -> list[str]:
    """Return what a TPM tool wrote about an error: its own lines, and not those of the library below it."""
    lines = [escaped(line) for line in (done.err or done.out).splitlines() if line.strip()]
    return [f"  {line}" for line in lines if _LIBRARY not in line]


ACTS = (
    Act(
        title="A library changes under the running containers",
        done="append a byte to libc.so.6 below the running containers, run ls again",
        before="Root on the host appends one byte to libc.so.6 in the image's layer, which both containers are running "
        "from, and then runs ls in the first container.",
        after="The measurer logged the opening before it returned, and the new content before it ran.",
        expect=frozenset({FindingKind.VIOLATION, FindingKind.WRONG_DIGEST}),
        in_guest=change_library,
    ),
    Act(
        title="An entry is deleted from the log",
        done="delete the entry of sha256sum from a copy of the log",
        before="Somebody on the way to the verifier hides that the first container ran sha256sum.",
        after="PCR 11 was extended by that entry, so the log without it leads to another value.",
        expect=frozenset({FindingKind.REPLAY_MISMATCH}),
        on_log=delete_entry,
    ),
    Act(
        title="PCR 11 is to be reset",
        done="try to reset PCR 11 in the guest",
        before="Root in the guest asks the TPM to set PCR 11 back to zero, so that a made-up log could be replayed.",
        after="The TPM refuses: only a restart of the machine resets this PCR. Nothing has changed, so the evidence is "
        "still trusted.",
        expect=frozenset(),
        in_guest=reset_register,
    ),
    Act(
        title="PCR 11 is extended past the log",
        done="extend PCR 11 in the guest with tpm2_pcrextend",
        before="Root in the guest extends PCR 11 by a value of their own, for which the log has no entry.",
        after="An extend cannot be undone, so this machine stays untrusted until it restarts.",
        expect=frozenset({FindingKind.REPLAY_MISMATCH}),
        in_guest=extend_register,
    ),
)
