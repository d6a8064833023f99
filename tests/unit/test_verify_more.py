"""The judge beyond one whole log: saved states, start values, old kernels, policies, prototypes, two processes."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import evidence as b
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from testbed import shell
from testbed.attest import bundle, checked, finding, judge, roster
from testbed.attest.finding import KEPT, BadEvidence, FindingKind
from testbed.attest.log import stream
from testbed.attest.policy.reference import Policy, parse_policy
from testbed.attest.saved.state import State
from testbed.attest.verdict import Verdict
from testbed.attest.verify import attested_entries, verify
from testbed.commands import verify as command
from testbed.errors import SpecError

KEY = rsa.generate_private_key(65537, 2048)
AK = b.pem(KEY)
NONCE = b"nonce of the verifier"
LINES = b.sample_log(host_files=40, container_files=20)


def values_of(lines: list[bytes], pcrs: tuple[int, ...] = (10, 11), bank: str = "sha256") -> dict[int, bytes]:
    return {pcr: b.extended(b"".join(lines), pcr, bank) for pcr in pcrs}


def quoted(
    directory: Path,
    lines: list[bytes],
    tail: list[bytes] | tuple[bytes, ...] = (),
    *,
    values: Mapping[int, bytes] | None = None,
    told: bool = True,
    clock: int = 123456,
    resets: int = 2,
    nonce: bytes = NONCE,
    form: dict[str, object] | None = None,
    shown: bytes | None = None,
) -> Path:
    """A bundle whose quote covers `lines`; `values` are what the PCRs hold where they hold something else."""
    held = dict(values if values is not None else values_of(lines))
    composite = hashlib.sha256(b"".join(held.values())).digest()
    signed = bytearray(b.attest(nonce, composite))
    at = 6 + 2 + 34 + 2 + len(nonce)
    signed[at : at + 12] = clock.to_bytes(8, "big") + resets.to_bytes(4, "big")
    log = b"".join([*lines, *tail]) if shown is None else shown
    sig = b.sign(KEY, bytes(signed), scheme=0x0014)
    claimed = held if told else None
    return b.write_bundle(directory, attest=bytes(signed), sig=sig, log=log, nonce=nonce, values=claimed, form=form)


def judged(directory: Path, **more: Any) -> Verdict:
    return verify(directory, ak=AK, nonce=NONCE, **more)


def kinds(verdict: Verdict) -> list[str]:
    return sorted({finding.kind.value for finding in verdict.findings})


def saved(verdict: Verdict) -> State:
    assert verdict.ok, verdict.findings
    assert verdict.state is not None
    return verdict.state


def replaced(lines: list[bytes], at: int, line: bytes) -> list[bytes]:
    return [*lines[:at], line, *lines[at + 1 :]]


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("first", [1, 20, 40, len(LINES)])
def test_two_steps_are_one(tmp_path: Path, first: int, told: bool) -> None:
    """Whatever was attested when: both ways end with the same values, counts, containers and state."""
    one = judged(quoted(tmp_path / "1", LINES[:first], LINES[first : first + 3], told=told))
    two = judged(quoted(tmp_path / "2", LINES, told=told, clock=123457), since=saved(one))
    whole = judged(tmp_path / "2")
    assert kinds(two) == kinds(whole) == []
    assert (two.pcrs, two.attested, two.containers, two.entries) == (
        whole.pcrs,
        whole.attested,
        whole.containers,
        whole.entries,
    )
    assert replace(saved(two), segments=()) == replace(saved(whole), segments=())
    again = judged(tmp_path / "2", since=saved(one), recheck=True)
    assert saved(again) == saved(whole)
    assert sum(segment.size for segment in saved(two).segments) == len(b"".join(LINES))


def test_a_rewritten_past_shows_with_recheck(tmp_path: Path) -> None:
    state = saved(judged(quoted(tmp_path / "1", LINES[:30])))
    rewritten = replaced(LINES, 5, b.ima_ng("/usr/bin/host-1-4", b"other"))
    assert len(b"".join(rewritten)) == len(b"".join(LINES))
    forged = quoted(tmp_path / "2", rewritten, values=values_of(LINES))
    assert kinds(judged(forged, since=state)) == []
    verdict = judged(forged, since=state, recheck=True)
    assert kinds(verdict) == ["replay-mismatch"]
    assert "verified before" in verdict.findings[0].where
    assert verdict.state is None


def test_a_log_that_has_shrunk(tmp_path: Path) -> None:
    state = saved(judged(quoted(tmp_path / "1", LINES[:30], LINES[30:32])))
    for count in (10, 30, 31):
        verdict = judged(quoted(tmp_path / str(count), LINES[:count], values=values_of(LINES[:30])), since=state)
        assert [f.kind.value for f in verdict.findings if not f.informative] == ["replay-mismatch"]
        assert "as at the last verification" in verdict.findings[0].expected


def test_quotes_that_stay_behind(tmp_path: Path) -> None:
    """What was in the log last time has been extended since: not to quote it is to hide it."""
    state = saved(judged(quoted(tmp_path / "1", LINES[:30], LINES[30:35])))
    verdict = judged(quoted(tmp_path / "2", LINES[:32], LINES[32:]), since=state)
    assert kinds(verdict) == ["replay-mismatch", "unattested"]
    assert "covers the 35 entries" in verdict.findings[0].expected
    assert kinds(judged(quoted(tmp_path / "3", LINES[:35], LINES[35:]), since=state)) == ["unattested"]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"resets": 3}, "quote-reset"), ({"resets": 1}, "quote-reset"), ({"clock": 5}, "quote-clock")],
)
def test_a_quote_that_does_not_follow(tmp_path: Path, changes: dict[str, int], kind: str) -> None:
    state = saved(judged(quoted(tmp_path / "1", LINES[:30])))
    verdict = judged(quoted(tmp_path / "2", LINES, **changes), since=state)  # type: ignore[arg-type]
    assert kinds(verdict) == [kind]
    assert any("not replayed" in note for note in verdict.notes)


def test_a_state_is_for_one_key_and_question(tmp_path: Path) -> None:
    state = saved(judged(quoted(tmp_path / "1", LINES[:30])))
    with pytest.raises(SpecError, match="attestation key"):
        judged(tmp_path / "1", since=replace(state, key=64 * "0"))
    with pytest.raises(SpecError, match="PCRs"):
        judged(tmp_path / "1", since=state, pcrs="sha256:10")
    with pytest.raises(SpecError, match="expected one of them, got both"):
        judged(tmp_path / "1", since=state, starts={11: bytes(32)})


def test_no_state_where_no_place_in_the_log_stands_for_it(tmp_path: Path) -> None:
    """An attested entry behind one that is not: only somebody who reorders can make that."""
    one, two, three = b.BOOT, b.ima_ng("/2", b""), b.ima_ng("/3", b"", 11)
    verdict = judged(quoted(tmp_path / "1", [one, three], values=values_of([one, three])))
    assert saved(verdict).entries == 2
    verdict = judged(quoted(tmp_path / "2", [one, two, three], values={**values_of([one]), 11: values_of([three])[11]}))
    assert kinds(verdict) == ["unattested"]
    assert (verdict.ok, verdict.state) == (True, None)


def test_start_values_are_declared(tmp_path: Path) -> None:
    """As a boot loader leaves them that measures into PCR 11 (systemd-stub): TPM 2.0's log is not ours."""
    start = hashlib.sha256(b"phases").digest()
    value = start
    for line in LINES:
        if line[0] == 11:
            data = line[4 + 20 + 4 + 7 + 4 :]
            value = hashlib.sha256(value + hashlib.sha256(data).digest()).digest()
    held = {10: values_of(LINES)[10], 11: value}
    directory = quoted(tmp_path / "1", LINES, values=held)
    assert kinds(judged(directory)) == ["replay-mismatch"]
    assert kinds(judged(directory, starts={11: start})) == []
    assert kinds(judged(quoted(tmp_path / "2", LINES, values=held, told=False), starts={11: start})) == []
    host = [line for line in LINES if line[0] == 10]
    phases = quoted(tmp_path / "3", host, values={10: values_of(host)[10], 11: start})
    assert kinds(judged(phases)) == ["log-missing"]
    assert kinds(judged(phases, starts={11: start})) == []
    with pytest.raises(SpecError, match="expected 32 bytes of sha256, got 20"):
        judged(directory, starts={11: bytes(20)})
    with pytest.raises(SpecError, match="got 12"):
        judged(directory, starts={12: bytes(32)})


def test_kernels_before_5_8_are_declared(tmp_path: Path) -> None:
    values = {10: bytes(32), 11: bytes(32)}
    lines = [b.BOOT, *(b.ima_ng(f"/{n}", b"", pcr=10 + n % 2) for n in range(9))]
    for line in lines:
        values[line[0]] = hashlib.sha256(values[line[0]] + line[4:24] + bytes(12)).digest()
    directory = quoted(tmp_path / "1", lines, values=values)
    assert kinds(judged(directory)) == ["replay-mismatch"]
    verdict = judged(directory, padded_sha1=True)
    assert kinds(verdict) == []
    assert saved(verdict).padded_sha1
    assert kinds(judged(directory, since=saved(verdict))) == []


@pytest.mark.parametrize("name", ["boot_aggregate", "boot_aggregate_late"])
def test_another_boot_aggregate_is_told(tmp_path: Path, name: str) -> None:
    lines = [*LINES, b.ima_ng(name, b"second"), b.ima_ng("/after", b"")]
    verdict = judged(quoted(tmp_path / "1", lines))
    assert kinds(verdict) == []
    assert any("kexec" in note for note in verdict.notes)


FILES = {"/usr/bin/signed": b"signed"}
FILES |= {f"/usr/bin/host-{seq}-{n}": f"host {seq} {n}".encode() for seq in (1, 2) for n in range(20)}
HOST: dict[str, Any] = {
    "files": {path: ["sha256:" + hashlib.sha256(content).hexdigest()] for path, content in FILES.items()},
    "boot_aggregate": ["sha256:" + hashlib.sha256(b"aggregate").hexdigest()],
}


def policy(**changes: Any) -> Policy:
    """What `LINES` have: the host's files, and one image for both containers."""
    image = {f"/usr/lib/file-{n}": ["sha256:" + hashlib.sha256(b"%d" % n).hexdigest()] for n in range(10)}
    image["/usr/bin/last"] = ["sha256:" + hashlib.sha256(b"last").hexdigest()]
    document: dict[str, Any] = {
        "schema": 1,
        "host": HOST,
        "images": {"app": {"files": image}},
        "containers": {"*": ["app"]},
    }
    return parse_policy(json.dumps(document | changes).encode(), "policy.json")


def test_policy(tmp_path: Path) -> None:
    directory = quoted(tmp_path / "1", LINES)
    verdict = judged(directory, policy=policy())
    assert kinds(verdict) == []
    assert {one.image for one in verdict.containers.values()} == {"app"}
    # A container's file is never excused by the host's list.
    everything = {f"/usr/lib/file-{n}": ["sha256:" + hashlib.sha256(b"%d" % n).hexdigest()] for n in range(10)}
    whole = policy()
    assert whole.accepted
    verdict = judged(directory, policy=policy(host={"files": everything}, images={}, containers={}))
    assert "unknown-file" in kinds(verdict)
    assert {f.container for f in verdict.findings} == {None, "1", "2"}


def test_policy_on_a_changed_host_and_container(tmp_path: Path) -> None:
    lines = replaced(LINES, 3, b.ima_ng("/usr/bin/host-1-1", b"evil"))
    lines = replaced(lines, 5, b.ima_ng("/usr/bin/new", b""))
    lines.append(b.ima_buf("ctr-file", b.ctr_file(b"/usr/bin/last", b"evil", seq=1)))
    lines.append(b.ima_buf("ctr-file", b.ctr_file(b"/usr/bin/host-1-1", b"host 1 1", seq=1)))
    verdict = judged(quoted(tmp_path / "1", lines), policy=policy())
    found = [(f.kind.value, f.container) for f in verdict.findings]
    expected = [("wrong-digest", None), ("unknown-file", None), ("wrong-digest", "1"), ("unknown-file", "1")]
    assert found == expected
    only_containers = judged(quoted(tmp_path / "3", [*LINES, *lines[-2:]]), policy=policy())
    assert [only_containers.container_judgement(key).value for key in "12"] == ["untrusted", "trusted"]
    state = judged(quoted(tmp_path / "2", LINES[:60]), policy=policy())
    verdict = judged(tmp_path / "1", policy=policy(), since=saved(state))
    assert kinds(verdict) != []


def test_what_a_policy_tolerates_is_counted(tmp_path: Path) -> None:
    lines = [*LINES, b.violation("/usr/bin/host-1-1"), b.ima_ng("/new", b"")]
    directory = quoted(tmp_path / "1", lines)
    assert kinds(judged(directory, policy=policy())) == ["unknown-file", "violation"]
    lenient = judged(directory, policy=policy(on={"violation": "note", "unknown": "note"}))
    assert kinds(lenient) == []
    assert [note for note in lenient.notes if note.startswith("tolerated")] == [
        "tolerated by the policy: 1 unknown-file entry",
        "tolerated by the policy: 1 violation entry",
    ]
    more = quoted(tmp_path / "2", [*lines, b.ima_ng("/newer", b"")])
    assert (
        "tolerated by the policy: 2 unknown-file entries" in judged(more, policy=policy(on={"unknown": "note"})).notes
    )


@pytest.mark.parametrize(
    ("template", "empty"), [(b"evm-sig", 7), (b"d-ng|n-ng|iuid|igid|imode", 3), (b"ima-buf", 1), (b"d-ng|n-ng|buf", 1)]
)
def test_a_boot_with_any_template_begins_with_an_entry_of_no_file(tmp_path: Path, template: bytes, empty: int) -> None:
    """`ima_template=` or `ima_template_fmt=`: the kernel has no inode for the boot aggregate, so nothing to write."""
    head = b.digest_field(hashlib.sha256(b"aggregate").digest()) + b.field(b"boot_aggregate\0")
    boot = b.entry(10, template, head + b.field(b"") * empty)
    lines = [boot, *LINES[1:]]
    assert LINES[0] == b.ima_ng("boot_aggregate", b"aggregate")
    directory = quoted(tmp_path / "1", lines)
    assert kinds(judged(directory)) == []
    assert kinds(judged(directory, policy=policy())) == []
    assert any("kexec" in note for note in judged(quoted(tmp_path / "2", [*lines, boot])).notes)


def test_a_violation_of_an_older_kernel_is_named(tmp_path: Path) -> None:
    line = b.entry(10, b"ima-ng", b.digest_field(bytes(20)) + b.field(b"/bin/v\0"), digest=bytes(20))
    (finding,) = judged(quoted(tmp_path, [*LINES, line])).findings
    assert finding.got == "a violation; the (unproven) name is b'/bin/v'"


def test_other_events_are_for_a_policy_to_judge(tmp_path: Path) -> None:
    event = b.ima_buf("kernel_version", b"6.12", pcr=10)
    directory = quoted(tmp_path / "1", [*LINES, event])
    note = "not judged, because there is no policy: 1 buffer of the kernel on PCR 10 (keys, critical data)"
    assert (kinds(judged(directory)), note in judged(directory).notes) == ([], True)
    host = {"buffers": {"kernel_version": ["sha256:" + hashlib.sha256(b"6.12").hexdigest()]}}
    assert "unsupported" not in kinds(judged(directory, policy=policy(host=host)))
    assert "wrong-digest" in kinds(
        judged(directory, policy=policy(host={"buffers": {"kernel_version": ["sha256:" + 64 * "0"]}}))
    )
    ours = quoted(tmp_path / "2", [*LINES, b.ima_buf("ctr-nothing", b"6.12")])
    assert kinds(judged(ours, policy=policy())) == kinds(judged(ours)) == ["unsupported"]


def test_a_buffer_without_a_policy_is_authentic_and_not_judged(tmp_path: Path) -> None:
    """A note for each PCR counts what is attested; a buffer with another digest is a finding as ever."""
    events = [b.ima_buf(name, name.encode()) for name in ("dm_table_load", "selinux-state", ".ima")]
    tail = [b.ima_buf("kernel_version", b"6.12", pcr=10)]
    verdict = judged(quoted(tmp_path / "1", [*LINES, *events], tail))
    assert kinds(verdict) == ["unattested"]
    assert [note for note in verdict.notes if "no policy" in note] == [
        "not judged, because there is no policy: 3 buffers of the kernel on PCR 11 (keys, critical data)"
    ]
    assert not any("no policy" in note for note in judged(tmp_path / "1", policy=policy()).notes)
    lying = b.entry(10, b"ima-buf", b.buf_data("kernel_version", b"6.12")[:-4] + b"6.13")
    assert kinds(judged(quoted(tmp_path / "2", [*LINES, lying]))) == ["template-hash"]


def test_beats_are_of_no_container_and_joins_of_theirs(tmp_path: Path) -> None:
    beat, join = b.ima_buf("ctr-beat", b.ctr_beat(1, 1)), b.ima_buf("ctr-join", b.ctr_join(seq=2, origin=1))
    before = judged(quoted(tmp_path / "1", LINES))
    verdict = judged(quoted(tmp_path / "2", [beat, *LINES, join]))
    assert verdict.ok
    assert [one.entries for one in verdict.containers.values()] == [
        one.entries + (one.seq == 2) for one in before.containers.values()
    ]
    early = judged(quoted(tmp_path / "3", [join, *LINES]))
    assert kinds(early) == ["malformed"]


def prototype_line(name: str, digest: bytes) -> bytes:
    return b.entry(11, b"ima-ng", b.digest_field(digest) + b.field(name.encode() + b"\0"))


def test_the_collision_pair_passes_a_replay_and_is_caught(tmp_path: Path) -> None:
    """Two contents, one measurement: nothing in the log is forged, and nothing in it tells them apart."""
    pair = [(b.GOLDEN / f"collision_{which}.bin").read_bytes() for which in "ab"]
    measured = {hashlib.sha256(hashlib.sha256(one).digest()[:8]).digest() for one in pair}
    assert len(set(pair)) == 2
    assert len(measured) == 1
    lines = [b.BOOT, *(b.ima_ng("/usr/bin/app", one) for one in pair)]
    lines += [prototype_line(f"{4026532900 + n}:/usr/bin/app", next(iter(measured))) for n in range(2)]
    verdict = judged(quoted(tmp_path / "1", lines))
    assert kinds(verdict) == ["weak-binding"]
    assert verdict.attested == {10: 3, 11: 2}
    assert any("64 bits" in f.got for f in verdict.findings)


def test_lines_by_no_known_rule_and_of_no_content(tmp_path: Path) -> None:
    unknown = prototype_line("4026532900:/usr/bin/app", bytes(range(32)))
    assert kinds(judged(quoted(tmp_path / "1", [b.BOOT, unknown]))) == ["unsupported"]
    nothing = prototype_line("4026532900", hashlib.sha256(bytes(8)).digest())
    assert "no-content" in kinds(judged(quoted(tmp_path / "2", [b.BOOT, nothing])))
    # Past the quoted state nothing is said of it.
    assert kinds(judged(quoted(tmp_path / "3", LINES, [nothing]))) == ["unattested"]


def test_a_file_whose_name_is_a_number_is_a_file(tmp_path: Path) -> None:
    """It has no path, for its mount was detached; a policy can list it."""
    directory = quoted(tmp_path, [*LINES, b.ima_ng("12345", b"x"), b.ima_ng("1_2", b"x")])
    assert kinds(judged(directory)) == []
    assert kinds(judged(directory, policy=policy())) == ["unknown-file"]
    digest = ["sha256:" + hashlib.sha256(b"x").hexdigest()]
    host = HOST | {"files": HOST["files"] | {"12345": digest, "1_2": digest}}
    assert kinds(judged(directory, policy=policy(host=host))) == []


def test_a_prototypes_line_is_explained_by_plain_lines_of_its_path_alone(tmp_path: Path) -> None:
    """What a process wrote into a buffer is no measurement of a file, whatever its name is."""
    explained = hashlib.sha256(hashlib.sha256(b"content").digest()[:8]).digest()
    line = prototype_line("4026532900:/usr/bin/app", explained)
    plain, buffer = b.ima_ng("/usr/bin/app", b"content"), b.ima_buf("/usr/bin/app", b"content", pcr=10)
    assert kinds(judged(quoted(tmp_path / "1", [b.BOOT, plain, line]))) == ["weak-binding"]
    assert "weak-binding" not in kinds(judged(quoted(tmp_path / "2", [b.BOOT, buffer, line])))
    # A line that cannot be read hides none that follows.
    broken = b.entry(10, b"ima-ng", b"?")
    found = kinds(judged(quoted(tmp_path / "3", [b.BOOT, broken, plain, line])))
    assert "weak-binding" in found
    assert "unsupported" not in found


def test_where_a_pcr_was_not_reached_only_entries_are_past_the_quoted_state(tmp_path: Path) -> None:
    one, two = b.ima_ng("/1", b""), b.ima_ng("/2", b"")
    verdict = judged(quoted(tmp_path / "1", [one, two], values={**values_of([one]), 11: b"x" * 32}))
    (found,) = [finding for finding in verdict.findings if finding.kind.value == "unattested"]
    assert found.where == "ima.bin"
    assert found.got == "1 entry after the quoted state"


def test_a_verdict_says_why_the_signers_name_was_not_checked(tmp_path: Path) -> None:
    bundle_of = quoted(tmp_path / "1", LINES)
    assert "the signer's name was not checked: a PEM does not contain it" in judged(bundle_of).notes
    named = b.tpm2b_public(ec.generate_private_key(ec.SECP256R1()))
    said = verify(bundle_of, ak=named, nonce=NONCE).notes
    assert "the signer's name was not checked: no --ak-parent was given" in said


def many(count: int = 600) -> list[bytes]:
    lines = [b.ima_ng(f"/usr/bin/host-1-{n % 20}", f"host 1 {n % 20}".encode()) for n in range(count)]
    return [LINES[0], *lines[1:]]


@pytest.mark.parametrize("with_policy", [True, False])
@pytest.mark.parametrize("block", [1 << 9, 1 << 12, 1 << 20])
def test_several_processes_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_policy: bool, block: int
) -> None:
    monkeypatch.setattr(stream, "_LARGEST", 1 << 11)
    monkeypatch.setattr(checked, "BLOCK", block)
    lines = many()
    lines[200] = b.ima_ng("/usr/bin/host-1-1", b"evil")
    lines[400] = lines[400][:10] + b"\1\2\3" + lines[400][13:]
    # What looks like an entry in the middle of one: a block that begins there is begun at a wrong byte.
    lines[300:310] = [b.ima_buf("ctr-other", b"".join(many(12))[n:]) for n in range(10)]
    reference = policy() if with_policy else None
    for name, tail in (("whole", []), ("tail", [*LINES, b"garbage"]), ("cut", [lines[0][:50]])):
        directory = quoted(tmp_path / name, lines, tail, values=values_of(lines))
        one, *others = (judged(directory, policy=reference, processes=processes) for processes in (1, 2, 4))
        assert others == [one, one]
        assert {"template-hash", "unsupported"} <= set(kinds(one))
        assert ("wrong-digest" in kinds(one)) == with_policy


def test_a_process_that_dies_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has taken a block, and after."""
    monkeypatch.setattr(checked, "BLOCK", 1 << 12)
    lines = many()
    lines[300] = b.ima_ng("/usr/bin/host-1-1", b"evil")
    directory = quoted(tmp_path / "1", lines, values=values_of(lines))
    workers = checked._Workers
    for dying in (lambda *_: None, lambda self, _: self._take()):
        monkeypatch.setattr(workers, "work", dying)
        assert kinds(judged(directory, policy=policy(), processes=3)) == ["wrong-digest"]


def test_other_processes_do_not_run_the_handlers_of_the_first(tmp_path: Path) -> None:
    """They are ended by a signal; with this program's handler for it, they would print a traceback."""
    lines = many()
    directory = quoted(tmp_path / "1", lines, values=values_of(lines))
    (tmp_path / "ak.pem").write_bytes(AK)
    argv = [directory, "--ak", tmp_path / "ak.pem", "--nonce", NONCE.hex(), "--jobs", "8"]
    for _ in range(4):
        program = "from testbed.cli import main; main()"
        done = shell.run([sys.executable, "-c", program, "verify", *map(str, argv)], timeout=60)
        assert (done.err, done.out.splitlines()[0]) == (b"", b"trusted (log authentic, files not judged)")


def test_a_long_log_is_worth_more_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert [checked.worthwhile(size) for size in (0, 1 << 20, 20 << 20, 1 << 31)] == [1, 1, 2, 6]


def test_a_log_that_is_written_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = quoted(tmp_path / "1", LINES)
    monkeypatch.setattr(bundle.os, "fstat", _older(bundle.os.fstat))  # type: ignore[attr-defined]
    verdict = judged(directory)
    assert kinds(verdict) == ["malformed"]
    assert (verdict.findings[0].expected, verdict.findings[0].got) == (
        "a log that stays the same while it is read",
        "it changed; copy the bundle and verify the copy",
    )


def _older(fstat: Any) -> Any:
    """Each look at a file finds it changed since the one before."""
    looks = iter(range(1000))

    class Status:
        def __init__(self, descriptor: int) -> None:
            real = fstat(descriptor)
            self.st_size, self.st_mode, self.st_ctime_ns = real.st_size, real.st_mode, next(looks)

    return Status


def test_attested_entries_are_a_prefix_by_pcr(tmp_path: Path) -> None:
    directory = quoted(tmp_path / "1", LINES[:30], LINES[30:])
    assert [entry.number for entry in attested_entries(directory, judged(directory))] == list(range(1, 31))


def call(*words: object) -> Result:
    return CliRunner().invoke(command.command, [*map(str, words)])


@pytest.fixture
def asked(tmp_path: Path) -> list[object]:
    (tmp_path / "ak.pem").write_bytes(AK)
    directory = quoted(tmp_path / "bundle", LINES[:30], LINES[30:32])
    return [directory, "--ak", tmp_path / "ak.pem", "--nonce", NONCE.hex()]


def test_command_with_states_and_a_policy(tmp_path: Path, asked: list[object]) -> None:
    state, reference = tmp_path / "state.json", tmp_path / "policy.json"
    done = call(*asked, "--save-state", state)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("trusted (log authentic, files not judged)")
    quoted(tmp_path / "bundle", LINES)
    done = call(*asked, "--since", state, "--recheck", "--save-state", state, "--jobs", 2)
    assert done.exit_code == 0, done.output
    assert json.loads(state.read_text())["entries"] == len(LINES)
    reference.write_text('{"schema": 1}')
    before = state.read_bytes()
    done = call(*asked, "--policy", reference, "--save-state", state)
    assert done.exit_code == 1
    assert "unknown-file" in done.output
    assert "no state saved: the evidence is not trusted" in done.output
    assert state.read_bytes() == before


def test_a_trusted_verdict_with_a_policy_says_no_more_than_that(tmp_path: Path, asked: list[object]) -> None:
    reference = tmp_path / "policy.json"
    reference.write_text('{"schema": 1, "on": {"unknown": "note"}}')
    done = call(*asked, "--policy", reference)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("trusted\n")
    assert "tolerated by the policy: 29 unknown-file entries" in done.output


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--recheck"], "expected --since"),
        (["--start", "11"], "expected PCR=HEX"),
        (["--start", "24=" + 64 * "0"], "expected PCR=HEX"),
        (["--start", "11=00"], "expected 32 bytes"),
        (["--start", "11=" + 64 * "0", "--start", "11=" + 64 * "1"], "expected one value of PCR 11"),
        (["--allow-resettable", "16=a", "--allow-resettable", "16=b"], "PCR 16, got a and b"),
        (["--allow-resettable", "10=a"], "expected a PCR from 16 to 23"),
        (["--allow-resettable", "16="], "= and a reason"),
        (["--ima-pcr", "24"], "ima-pcr"),
        (["--rejudge"], "expected --since"),
        (["--start", "9=00", "--start", "10=" + 64 * "0", "--start", "09=01"], "PCR 9, got 00 and 01"),
        (["--firmware", "xyz"], "up to 16 hex digits"),
        (["--policy", "/nonexistent"], "nonexistent"),
        (["--since", "/"], "plain file"),
        (["--jobs", "0"], "jobs"),
    ],
)
def test_wrong_arguments(asked: list[object], words: list[str], what: str) -> None:
    done = call(*asked, *words)
    assert done.exit_code == 2, done.output
    assert what in done.output


def test_firmware_and_start_reach_the_judge(asked: list[object]) -> None:
    assert call(*asked, "--firmware", "2019102300163636", "--start", "11=" + 64 * "0").exit_code == 0
    twice = ["--start", "11=" + 64 * "0", "--start", "11=" + 64 * "0", "--start", "10=" + 64 * "0"]
    assert call(*asked, *twice).exit_code == 0
    done = call(*asked, "--firmware", "0x1")
    assert done.exit_code == 1
    assert "quote-signer" in done.output
    assert "replay-mismatch" in call(*asked, "--padded-sha1").output


def flood(lines: list[bytes]) -> list[bytes]:
    return [b.BOOT, *lines]


def test_findings_are_counted_when_there_are_many(tmp_path: Path) -> None:
    lines = flood([b.entry(10, b"x", b"%d" % n) for n in range(KEPT + 7)])
    verdict = judged(quoted(tmp_path / "1", lines))
    assert len(verdict.findings) == KEPT
    assert verdict.omitted == {(FindingKind.UNSUPPORTED, None): 7}
    assert verdict.as_json()["omitted"] == {"unsupported": 7}
    said = "\n".join(command._lines(verdict, judged=False))
    assert "unsupported: 7 more, which are only counted" in said


def test_a_container_is_not_trusted_for_findings_that_are_only_counted(tmp_path: Path) -> None:
    starts = [b.ima_buf("ctr-start", b.ctr_start(b.libpod(f"{seq:064x}"), seq=seq)) for seq in (1, 2, 3)]
    doubts = [b.ima_buf("ctr-violation", b.ctr_violation(b"/x%d" % n, seq=1)) for n in range(KEPT)]
    last = b.ima_buf("ctr-violation", b.ctr_violation(b"/y", seq=2))
    verdict = judged(quoted(tmp_path / "1", flood([*starts, *doubts, last])))
    assert {finding.container for finding in verdict.findings} == {"1"}
    assert [verdict.container_judgement(seq).value for seq in "123"] == ["untrusted", "untrusted", "trusted"]
    said = verdict.as_json()["containers"]
    assert [one["verdict"] for one in said.values()] == ["untrusted", "untrusted", "trusted"]
    assert [(len(one["findings"]), one["omitted"]) for one in said.values()] == [
        (KEPT, {}),
        (0, {"violation": 1}),
        (0, {}),
    ]


def test_after_very_many_findings_entries_are_only_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_ENOUGH", 20)
    lines = flood([*(b.entry(10, b"x", b"%d" % n) for n in range(20)), *(b.violation("/v") for _ in range(9))])
    verdict = judged(quoted(tmp_path / "1", lines))
    assert kinds(verdict) == ["too-many", "unsupported"]
    assert (verdict.entries, verdict.attested) == (30, {10: 30, 11: 0})


@pytest.mark.parametrize(
    ("what", "limit", "line"),
    [
        ("containers", (roster, "MOST"), lambda n: b.ima_buf("ctr-start", b.ctr_start(b.libpod(), seq=n))),
        ("digests of images", (judge, "MOST_TREES"), lambda n: b.ima_buf("ctr-image", b.ctr_image(bytes([n]) * 32))),
        ("lines with a namespace", (judge, "MOST_NAMESPACED"), lambda n: b.ima_ng(f"4026532981:/x{n}", b"")),
        (
            "parts of the measurer",
            (judge, "MOST_PARTS"),
            lambda n: b.ima_buf("ctr-measurer", b.ctr_measurer(1, b"%d" % n)),
        ),
        (
            "buffers of the kernel that are not judged",
            (judge, "MOST_BUFFERS"),
            lambda n: b.ima_buf("kexec-cmdline", b"%d" % n, pcr=10),
        ),
        ("boot_aggregate entries", (judge, "MOST_BOOTS"), lambda n: b.ima_ng("boot_aggregate", b"%d" % n)),
    ],
)
def test_a_limit_ends_in_a_finding(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    limit: tuple[Any, str],
    line: Callable[[int], bytes],
) -> None:
    monkeypatch.setattr(*limit, 5)
    monkeypatch.setattr(judge, "MOST", roster.MOST)
    few = judged(quoted(tmp_path / "few", flood([line(n) for n in range(1, 5)])))
    assert "too-many" not in kinds(few)
    many = judged(quoted(tmp_path / "many", flood([line(n) for n in range(1, 9)])))
    (said,) = [one for one in many.findings if one.kind is FindingKind.TOO_MANY]
    assert said.expected == f"at most 5 {what}"
    assert not many.ok


def test_after_a_wrong_signature_nothing_is_judged(tmp_path: Path) -> None:
    directory = quoted(tmp_path / "1", [*LINES, *(b.entry(10, b"x", b"%d" % n) for n in range(50))])
    verdict = verify(directory, ak=b.pem(rsa.generate_private_key(65537, 2048)), nonce=NONCE)
    assert kinds(verdict) == ["quote-signature"]
    assert (verdict.entries, verdict.containers) == (len(LINES) + 50, {})
    assert any("not judged" in note for note in verdict.notes)


def test_notes_name_the_usual_cause(tmp_path: Path) -> None:
    def notes(directory: Path, **more: Any) -> str:
        return "\n".join(judged(directory, **more).notes)

    other = quoted(tmp_path / "1", LINES, values={**values_of(LINES), 10: b"x" * 32})
    assert "--padded-sha1" in notes(other)
    assert "--start" in notes(other)
    never = quoted(tmp_path / "2", [], LINES, values={10: bytes(32), 11: bytes(32)})
    assert "no entry of the log is attested" in notes(never)
    assert "--ima-pcr" in notes(never)
    assert "another machine" in "\n".join(verify(other, ak=b.pem(KEY_2), nonce=NONCE).notes)
    (tmp_path / "3").mkdir()
    for name in ("quote.sig", "quote.attest", "ima.bin"):
        (tmp_path / "3" / name).write_bytes((other / name).read_bytes())
    (tmp_path / "3/bundle.json").symlink_to(other / "bundle.json")
    (malformed,) = judged(tmp_path / "3").findings
    assert malformed.got == "a symbolic link, which is not followed"


KEY_2 = rsa.generate_private_key(65537, 2048)


def renewed(tmp_path: Path, first: Policy | None, later: Policy | None, **more: Any) -> Verdict:
    """Judge half of a log by one policy, and the whole by another."""
    state = saved(judged(quoted(tmp_path / "1", LINES[:40]), policy=first))
    return judged(quoted(tmp_path / "2", LINES, clock=123457), policy=later, since=state, **more)


def test_a_policy_that_was_renewed(tmp_path: Path) -> None:
    """An image that was renamed ended in a KeyError; a laxer policy's past was trusted."""
    lax, strict = parse_policy(b'{"schema": 1, "on": {"unknown": "note"}}', "p"), policy()
    for number, (first, later) in enumerate([(lax, strict), (None, strict), (strict, None), (strict, lax)]):
        with pytest.raises(SpecError, match="saved state: policy") as caught:
            renewed(tmp_path / f"{number}", first, later)
        assert "--rejudge" in caught.value.hint
    again = renewed(tmp_path / "same", strict, policy())
    assert again.ok
    rejudged = renewed(tmp_path / "rejudged", None, strict, rejudge=True)
    whole = judged(tmp_path / "rejudged/2", policy=strict)
    assert saved(rejudged) == saved(whole)
    assert kinds(renewed(tmp_path / "stricter", lax, parse_policy(b'{"schema": 1}', "p"), rejudge=True)) == [
        "unknown-file"
    ]


def test_rejudging_still_compares_with_the_state(tmp_path: Path) -> None:
    state = saved(judged(quoted(tmp_path / "1", LINES[:40], LINES[40:45])))
    assert kinds(judged(quoted(tmp_path / "2", LINES, clock=5), since=state, rejudge=True)) == ["quote-clock"]
    assert kinds(judged(quoted(tmp_path / "3", LINES[:41], LINES[41:]), since=state, rejudge=True)) == [
        "replay-mismatch",
        "unattested",
    ]


def test_rejudging_begins_with_the_declared_start_values(tmp_path: Path) -> None:
    start = hashlib.sha256(b"phases").digest()

    def value(lines: list[bytes]) -> bytes:
        held = start
        for line in lines:
            if line[0] == 11:
                held = hashlib.sha256(held + hashlib.sha256(line[39:]).digest()).digest()
        return held

    first, whole = LINES[:45], LINES
    one = judged(quoted(tmp_path / "1", first, values={**values_of(first), 11: value(first)}), starts={11: start})
    later = quoted(tmp_path / "2", whole, values={**values_of(whole), 11: value(whole)}, clock=123457)
    assert judged(later, since=saved(one), rejudge=True).ok


def chunk(directory: Path, first: int, last: int, *, told: bool = True, offset: int | None = None) -> Path:
    """A quote after `last` lines, with the part of the log from line `first` on."""
    at = len(b"".join(LINES[:first])) if offset is None else offset
    shown = b"".join(LINES[first:last])
    return quoted(
        directory, LINES[:last], clock=123456 + last, shown=shown, form={"offset": at} if at else None, told=told
    )


@pytest.mark.parametrize("told", [True, False])
def test_a_log_that_comes_in_chunks(tmp_path: Path, told: bool) -> None:
    """As kernels give it that remove what was read: the same verdict, values, containers and numbers of entries."""
    ends = (0, 1, 23, 24, 45, len(LINES))
    state, verdict = None, None
    for number, (first, last) in enumerate(itertools.pairwise(ends)):
        verdict = judged(chunk(tmp_path / f"{number}", first, last, told=told), since=state)
        assert kinds(verdict) == []
        state = saved(verdict)
    assert verdict is not None
    whole = judged(quoted(tmp_path / "whole", LINES, clock=123456 + len(LINES)))
    assert (verdict.pcrs, verdict.attested, verdict.containers, verdict.entries) == (
        whole.pcrs,
        whole.attested,
        whole.containers,
        whole.entries,
    )
    assert state is not None
    assert replace(state, segments=()) == replace(saved(whole), segments=())
    # A chunk can also begin before the state.
    assert (
        kinds(judged(chunk(tmp_path / "early", 10, len(LINES)), since=saved(judged(chunk(tmp_path / "x", 0, 30)))))
        == []
    )


def test_a_chunk_that_is_missing_is_a_finding(tmp_path: Path) -> None:
    state = saved(judged(chunk(tmp_path / "1", 0, 30)))
    questions: dict[str, dict[str, Any]] = {"2": {"since": state}, "3": {}, "4": {"since": state, "recheck": True}}
    for name, more in questions.items():
        verdict = judged(chunk(tmp_path / name, 31 if name == "2" else 30, len(LINES)), **more)
        assert kinds(verdict) == ["log-missing"]
        assert verdict.findings[0].where == "bundle.json: log.offset"
        assert verdict.state is None
    # What is claimed to begin elsewhere does not fit.
    right = len(b"".join(LINES[:30]))
    for at in (right - 1, right - 60):
        assert not judged(chunk(tmp_path / f"{at}", 30, len(LINES), offset=at), since=state).ok
    with pytest.raises(BadEvidence, match="a whole log"):
        list(attested_entries(chunk(tmp_path / "5", 30, len(LINES)), judged(chunk(tmp_path / "6", 0, 30))))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ([], "an object"),
        ({"offset": -1}, "a number of bytes"),
        ({"offset": True}, "a number of bytes"),
        ({"offset": 1 << 63}, "a number of bytes"),
        ({"offset": "1"}, "a number of bytes"),
        ({"digest": "md5"}, "one of sha1"),
        ({"digest": 5}, "one of sha1"),
        ({"byte_order": "middle"}, "little or big"),
        ({"size": 1}, "only the keys"),
    ],
)
def test_the_form_of_a_log_is_read_strictly(tmp_path: Path, form: Any, expected: str) -> None:
    (malformed,) = judged(quoted(tmp_path / "1", LINES, form=form)).findings
    assert (malformed.kind, malformed.where[:16]) == (FindingKind.MALFORMED, "bundle.json: log")
    assert malformed.expected.startswith(expected)


FORMS = [("sha256", "little"), ("sha512", "little"), ("sha1", "big"), ("sha384", "big")]


def formed(directory: Path, lines: list[bytes], digest: str, order: str, **more: Any) -> Path:
    """A bundle whose log is another bank's or a big-endian machine's."""
    sign = ">" if order == "big" else "<"
    written = [b.reformed(line, digest, sign) for line in lines]
    values = {pcr: b.extended_by_fields(written, pcr, digest, sign) for pcr in (10, 11)}
    return quoted(directory, written, values=values, **more)


@pytest.mark.parametrize(("digest", "order"), FORMS)
def test_a_log_of_another_bank_or_byte_order(tmp_path: Path, digest: str, order: str) -> None:
    """Declared by an option or by the bundle, it gives what the usual log of the same entries gives."""
    usual = judged(quoted(tmp_path / "usual", LINES), policy=policy())
    declared = {"log_digest": digest, "byte_order": order}
    one = judged(formed(tmp_path / "1", LINES, digest, order), policy=policy(), **declared)
    claim: dict[str, object] = {"digest": digest, "byte_order": order}
    two = judged(formed(tmp_path / "2", LINES, digest, order, form=claim), policy=policy())
    assert kinds(one) == kinds(two) == kinds(usual) == []
    assert (one.containers, one.attested, one.entries) == (usual.containers, usual.attested, usual.entries)
    assert saved(one) == saved(two)
    assert [entry.number for entry in attested_entries(tmp_path / "2", two)] == list(range(1, len(LINES) + 1))
    for processes in (2, 3):
        again = judged(tmp_path / "2", policy=policy(), processes=processes)
        assert replace(again, state=None) == replace(two, state=None)
    # Undeclared, it is not read; a bundle that claims something else than you declare is refused.
    assert "malformed" in kinds(judged(formed(tmp_path / "3", LINES, digest, order), policy=policy()))
    assert kinds(judged(tmp_path / "2", log_digest="sha512" if digest != "sha512" else "sha1")) == ["malformed"]


@pytest.mark.parametrize(("digest", "order"), FORMS)
def test_such_a_log_is_judged_as_strictly(tmp_path: Path, digest: str, order: str) -> None:
    declared = {"log_digest": digest, "byte_order": order}
    lines = [*LINES, b.violation("/bin/v"), b.ima_ng("/usr/bin/host-1-1", b"evil")]
    assert kinds(judged(formed(tmp_path / "1", lines, digest, order), policy=policy(), **declared)) == [
        "violation",
        "wrong-digest",
    ]
    directory = formed(tmp_path / "2", LINES, digest, order)
    data = bytearray((directory / "ima.bin").read_bytes())
    data[8] ^= 1
    (directory / "ima.bin").write_bytes(data)
    assert kinds(judged(directory, **declared)) == ["template-hash"]


def test_the_message_names_the_byte_order_and_the_bank(tmp_path: Path) -> None:
    big, *_ = judged(formed(tmp_path / "1", LINES, "sha1", "big")).findings
    assert "--byte-order big" in big.got
    other, *_ = judged(formed(tmp_path / "2", LINES, "sha256", "little")).findings
    assert "--log-digest" in other.got


def test_a_state_is_for_a_log_of_one_form(tmp_path: Path) -> None:
    state = saved(judged(formed(tmp_path / "1", LINES[:30], "sha256", "little"), log_digest="sha256"))
    later = formed(tmp_path / "2", LINES, "sha256", "little", clock=123457)
    assert judged(later, since=state, log_digest="sha256").ok
    (malformed,) = judged(quoted(tmp_path / "3", LINES, clock=123457), since=state).findings
    assert "sha256 digests" in malformed.expected


def test_the_verdict_is_printed_whatever_becomes_of_the_state(asked: list[object], tmp_path: Path) -> None:
    """Before, a state that was too large or could not be written hid the verdict."""
    done = call(*asked, "--save-state", tmp_path / "no/such/state")
    assert done.output.startswith("trusted")
    assert isinstance(done.exception, SpecError)
    assert "expected a file that can be written" in done.exception.message
