"""Replay, entry by entry and in runs, against values that `evidence.py` computes its own way."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path

import evidence as b
import pytest

from testbed import shell
from testbed.attest.bundle import Log
from testbed.attest.checked import Task, check
from testbed.attest.log.ima import read_entries
from testbed.attest.log.stream import Run, read_runs
from testbed.attest.registers import pcr_register
from testbed.attest.replay import Goal, Replay, replay_findings, take

MIXED = b"".join([*b.sample_log(), b.ima_old("/bin/old", b"old"), b.violation("/bin/v"), b.entry(11, b"dep", b"?")])
LONG = b"".join(b.ima_ng(f"/usr/bin/{n}", b"%d" % n, pcr=10 + (n % 3 == 0)) for n in range(400))


def begun(bank: str, pcrs: tuple[int, ...], goal: Goal, *, padded: bool = False) -> Replay:
    values = {pcr: pcr_register(pcr, bank).start for pcr in pcrs}
    return Replay(bank=bank, goal=goal, values=values, counts=dict.fromkeys(pcrs, 0), padded=padded)


def apart(quoted: Mapping[int, bytes]) -> Goal:
    return Goal(quoted=quoted, algorithm="sha256", composite=b"")


def together(values: Mapping[int, bytes], algorithm: str = "sha256") -> Goal:
    return Goal(quoted=None, algorithm=algorithm, composite=hashlib.new(algorithm, b"".join(values.values())).digest())


def stepped(log: bytes, replay: Replay) -> list[int]:
    """Take the log one by one; return the numbers of the entries that are to be judged."""
    return [entry.number for entry in read_entries(log) if replay.step(entry)]


def in_runs(log: bytes, replay: Replay) -> int:
    """Take the log as it streams; return how many runs were taken whole."""
    file = io.BytesIO(log)
    whole, task = (
        0,
        Task(
            log=Log(file=file, descriptor=-1, begin=0, size=len(log), changed=0),
            policy=None,
            bank=replay.bank,
            padded=replay.padded,
        ),
    )
    for item in read_runs(file, len(log)):
        checked = check(item, task) if isinstance(item, Run) else None
        if (checked is not None and replay.run(checked)) or (isinstance(item, Run) and replay.skip(item)):
            whole += 1
            continue
        for entry in item.entries() if isinstance(item, Run) else [item]:
            replay.step(entry)
    return whole


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384", "sha512"])
def test_replay_in_each_bank(bank: str) -> None:
    values = {pcr: b.extended(MIXED, pcr, bank) for pcr in (10, 11)}
    for goal in (apart(values), together(values), together(values, "sha384")):
        replay = begun(bank, (10, 11), goal)
        assert len(stepped(MIXED, replay)) == 24
        assert replay.complete
        assert (replay.unattested, replay.entries, sum(replay.reached.values())) == (0, 24, 24)
        assert (replay.values, replay.boundary) == (values, len(MIXED))


@pytest.mark.parametrize("end", [0, 1, 150, 399, 400])
@pytest.mark.parametrize("apart_or_together", [apart, together])
def test_runs_lead_to_the_same(end: int, apart_or_together: object) -> None:
    """Quoted after `end` entries: what is counted, where it ends, what the PCRs hold."""
    entries = list(read_entries(LONG))
    prefix = LONG[: entries[end - 1].end] if end else b""
    values = {pcr: b.extended(prefix, pcr) for pcr in (10, 11)}
    one, other = (begun("sha256", (10, 11), apart_or_together(values)) for _ in range(2))  # type: ignore[operator]
    stepped(LONG, one)
    whole = in_runs(LONG, other)
    assert one == other
    assert one.complete
    assert (one.unattested, one.values) == (400 - end, values)
    assert one.mark().entries == end
    assert one.mark().offset == len(prefix)
    assert whole > 0 or apart_or_together is together


def test_runs_of_another_pcr_are_not_taken_whole() -> None:
    log = LONG + b.ima_ng("/x", b"", pcr=12) + LONG.replace(b"/usr/bin", b"/usr/lib")
    values = {pcr: b.extended(log, pcr) for pcr in (10, 11)}
    one, other = (begun("sha256", (10, 11), apart(values)) for _ in range(2))
    stepped(log, one)
    in_runs(log, other)
    # The digests of the second half do not fit their data: not this module's business.
    assert one == other
    assert (one.foreign, one.complete) == (1, True)


def test_each_pcr_is_a_prefix_of_its_own() -> None:
    first, second, third = b.ima_ng("/1", b""), b.ima_ng("/2", b"", 11), b.ima_ng("/3", b"")
    log = first + second + third + b.ima_ng("/4", b"", 12)
    replay = begun("sha256", (10, 11), apart({10: b.extended(first, 10), 11: b.extended(log, 11)}))
    assert stepped(log, replay) == [1, 2]
    assert replay.reached == {10: 1, 11: 1}
    assert (replay.unattested, replay.foreign, replay.boundary) == (2, 0, len(first + second))
    mark = replay.mark()
    assert (mark.offset, mark.entries, mark.counts) == (len(first + second), 2, {10: 1, 11: 1})


def test_the_mark_is_before_the_first_that_is_not_attested() -> None:
    """However late the last is that is: the state at that place is what a replay can go on from."""
    one, two, three = b.ima_ng("/1", b""), b.ima_ng("/2", b""), b.ima_ng("/3", b"", 11)
    log = one + two + three
    replay = begun("sha256", (10, 11), apart({10: b.extended(one, 10), 11: b.extended(log, 11)}))
    assert stepped(log, replay) == [1, 3]
    mark = replay.mark()
    assert (mark.offset, mark.entries, mark.counts) == (len(one), 1, {10: 1, 11: 0})
    assert mark.values == {10: b.extended(one, 10), 11: bytes(32)}


def test_every_foreign_entry_is_counted_and_the_first_is_named() -> None:
    foreign = [b.ima_ng(f"/x{number}", b"", 12 + number) for number in range(3)]
    log = b.ima_ng("/1", b"") + b"".join(foreign) + b.ima_ng("/2", b"")
    replay = begun("sha256", (10,), apart({10: b.extended(log, 10)}))
    assert stepped(log, replay) == [1, 5]
    assert (replay.foreign, replay.unattested) == (3, 0)
    assert replay.first_foreign is not None
    assert replay.first_foreign.number == 2


def test_a_pcr_that_was_not_quoted_is_foreign_before_the_boundary() -> None:
    log = b.ima_ng("/1", b"") + b.ima_ng("/x", b"", 12) + b.ima_ng("/2", b"")
    replay = begun("sha256", (10,), apart({10: b.extended(log, 10)}))
    assert stepped(log, replay) == [1, 3]
    assert (replay.foreign, replay.unattested) == (1, 0)
    assert replay.first_foreign is not None
    assert replay.first_foreign.number == 2


def test_nothing_extended() -> None:
    replay = begun("sha256", (10, 16), apart({10: pcr_register(10, "sha256").start, 16: bytes(32)}))
    assert stepped(MIXED, replay) == []
    assert replay.reached == {10: 0, 16: 0}
    assert (replay.boundary, replay.unattested) == (0, 24)
    assert pcr_register(17, "sha1").start == b"\xff" * 20


def test_kernels_before_5_8_extend_padded_sha1() -> None:
    value = bytes(32)
    for entry in read_entries(log := LONG + b.violation("/v")):
        digest = b"\xff" * 20 if entry.violation else hashlib.sha1(entry.data).digest()
        value = hashlib.sha256(value + digest + bytes(12)).digest() if entry.pcr == 10 else value
    for padded in (True, False):
        replay = begun("sha256", (10,), apart({10: value}), padded=padded)
        stepped(log, replay)
        assert replay.complete == padded
    replay = begun("sha256", (10, 11), apart({10: value, 11: b""}), padded=True)
    assert in_runs(log, replay) > 0
    assert replay.pending == {11}


def test_take_ends_with_its_last_entry() -> None:
    """A broken tail behind it is not even read."""
    log = b.ima_ng("/1", b"") + b"garbage"
    assert [e.number for e in take(read_entries(log), {10: 1, 11: 0})] == [1]
    assert list(take(read_entries(b"garbage"), {10: 0})) == []


@pytest.mark.skipif(shell.which("evmctl") is None, reason="no evmctl on this machine (package ima-evm-utils)")
def test_evmctl_agrees(tmp_path: Path) -> None:
    """An independent replay comes to the same values, and not to those of a log with one bit changed."""
    log = b"".join(b.sample_log())
    values = {pcr: b.extended(log, pcr) for pcr in (10, 11)}
    code, said = _evmctl(tmp_path, log, values)
    assert code == 0
    for pcr, value in values.items():
        assert re.findall(rf"sha256: PCRAgg +{pcr}: ([0-9a-f]+)", said)[-1] == value.hex()
    replay = begun("sha256", (10, 11), apart(values))
    stepped(log, replay)
    assert replay.complete
    bad = bytearray(log)
    bad[80] ^= 1
    assert _evmctl(tmp_path, bytes(bad), values)[0] != 0


def _evmctl(directory: Path, log: bytes, values: dict[int, bytes]) -> tuple[int, str]:
    lines = [f"PCR-{pcr:02d}: {values.get(pcr, bytes(32)).hex()}\n" for pcr in range(24)]
    (directory / "pcrs").write_text("".join(lines))
    (directory / "log").write_bytes(log)
    argv = ["evmctl", "ima_measurement", "-v", "--pcrs", f"sha256,{directory / 'pcrs'}", str(directory / "log")]
    done = shell.run(argv, timeout=30, check=False)
    return done.code, (done.out + done.err).decode()


@pytest.mark.parametrize(
    ("number", "got"), [(1, "1 entry of other PCRs"), (3, "3 entries of other PCRs; this is the first")]
)
def test_entries_of_other_pcrs_are_counted_and_the_first_is_shown(number: int, got: str) -> None:
    log = b"".join([*[b.ima_ng(f"/{at}", b"", 12) for at in range(number)], b.ima_ng("/x", b"", 10)])
    replay = begun("sha256", (10,), apart({10: b"\1" * 32}))
    stepped(log, replay)
    (finding,) = [one for one in replay_findings(replay) if "entry 1 " in one.where]
    assert (finding.expected, finding.got) == ("only entries of the quoted PCRs", got)


@pytest.mark.parametrize("bank", ["sha1", "sha256"])
@pytest.mark.parametrize("pcr", range(24))
def test_only_the_pcrs_of_the_dynamic_root_of_trust_start_as_ones(pcr: int, bank: str) -> None:
    """TCG PC Client Platform TPM Profile: 17 to 22 hold ones until a dynamic launch sets them."""
    ones = pcr in (17, 18, 19, 20, 21, 22)
    assert pcr_register(pcr, bank).start == (b"\xff" if ones else b"\0") * hashlib.new(bank).digest_size
