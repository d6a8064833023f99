"""Beats: what a series of them leaves open, and whose verdict that is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import evidence as b
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from testbed.attest.beats import Beat, Beats
from testbed.attest.entries.parse import BeatEntry, parse_payload
from testbed.attest.finding import FindingKind
from testbed.attest.saved import state
from testbed.attest.verdict import Judgement, Verdict
from testbed.attest.verify import verify

KEY = ec.derive_private_key(0x7E57, ec.SECP256R1())
NONCE = b"n" * 16
SECOND = 10**9


def beat(
    number: int, event: int = 2, seconds: float = 0, *, interval: float = 0, lost: int = 0, containers: int = 0
) -> BeatEntry:
    time, promised = int(seconds * SECOND), int(interval * SECOND)
    written = b.ctr_beat(number, event, time=time, interval=promised, lost=lost, containers=containers)
    parsed = parse_payload(b"ctr-beat", written)
    assert isinstance(parsed, BeatEntry)
    return parsed


def said(told: Sequence[BeatEntry], last: Beat | None = None) -> list[str]:
    beats = Beats(last=last)
    found = [finding for number, one in enumerate(told) for finding in beats.step(f"at {number}", one, started=0)]
    found += beats.end()
    assert {finding.kind for finding in found} <= {FindingKind.UNKNOWN_WINDOW}
    return [f"{finding.where}: {finding.expected}; {finding.got}" for finding in found]


@given(st.lists(st.tuples(st.sampled_from([2, 3]), st.floats(0, 60)), max_size=20))
def test_a_series_without_a_gap_is_no_finding(steps: list[tuple[int, float]]) -> None:
    told, at = [beat(1, 1, 3, interval=30, lost=0)], 3.0
    for number, (event, seconds) in enumerate(steps, 2):
        at += seconds
        told.append(beat(number, event, at, interval=30))
    assert said(told) == []


def test_what_is_said_of_each() -> None:
    first = beat(1, 1, 5, interval=30)
    assert said([first, beat(4, 3, 6)]) == ["at 1: beat 2, one more than the previous beat; beat 4"]
    assert said([beat(2, 2, 6)]) == ["at 0: beat 1, the first of the boot; beat 2"]
    assert said([first, beat(2, 2, 65.001)]) == [
        "at 1: at most 60.000 s after beat 1, which promised the next in 30.000 s; beat 2, 60.001 s after it"
    ]
    assert said([first, beat(2, 2, 4.5)]) == ["at 1: 5000000000 ns or later; 4500000000 ns, at beat 2"]
    assert said([first, beat(2, 2, 6, lost=2), beat(3, 2, 7, lost=2), beat(4, 2, 8, lost=5)]) == [
        "at 1: 0 events without an entry; 2, at beat 2",
        "at 3: 2 events without an entry; 5, at beat 4",
    ]
    assert said([first, beat(2, 1, 6)]) == [
        "at 1: programs that stay attached; programs that were attached a second time: beat 2"
    ]
    assert said([beat(1, 2, 5)]) == ["at 0: attached programs; a beat although the programs are detached: beat 1"]


def test_a_window_is_told_once_with_its_end() -> None:
    head = [beat(1, 1, 5), beat(2, 4, 9)]
    open_end = "at 1: programs that stay attached; detached at beat 2, not attached again"
    assert said(head) == [open_end]
    closed = ["at 1: programs that stay attached; detached at beat 2, attached again at beat 3, after 2.500 s"]
    assert said([*head, beat(3, 1, 11.5), beat(4, 3, 12)]) == closed
    # Who is not attached has no beats, and cannot be taken out again.
    for event in (2, 3, 4):
        assert said([*head, beat(3, event, 10)]) == [
            "at 2: attached programs; a beat although the programs are detached: beat 3",
            open_end,
        ]


def test_a_series_goes_on_from_what_was_saved() -> None:
    last = Beat(number=7, time=100 * SECOND, interval=10 * SECOND, lost=2, containers=0, started=0)
    assert said([], last) == []
    assert said([beat(8, 3, 101, lost=2)], last) == []
    assert said([beat(9, 3, 101, lost=2)], last) == ["at 0: beat 8, one more than the previous beat; beat 9"]
    assert said([beat(8, 2, 121, lost=2)], last) == [
        "at 0: at most 20.000 s after beat 7, which promised the next in 10.000 s; beat 8, 21.000 s after it"
    ]
    assert said([beat(8, 3, 101, lost=3)], last) == ["at 0: 2 events without an entry; 3, at beat 8"]


def compared(*beats: tuple[int, int], lost: int = 0, lossy: bool = False) -> list[FindingKind]:
    """Judge beats of so many containers, each after so many starts; the last one shows ``lost`` events."""
    series, found = Beats(), []
    for number, (containers, started) in enumerate(beats, 1):
        one = beat(number, 1 if number == 1 else 3, number, containers=containers, lost=lost * (number == len(beats)))
        found += series.step("", one, started=started, lossy=lossy)
    return [finding.kind for finding in found]


def test_a_container_that_a_beat_names_must_start_by_the_next_beat() -> None:
    assert compared((0, 0), (2, 2), (2, 2), (3, 3)) == []
    # A start that races with a beat is logged just after it, or just before it.
    assert compared((0, 0), (2, 1), (2, 2)) == []
    assert compared((0, 0), (1, 2), (2, 2)) == []
    assert compared((0, 0), (2, 1), (2, 1)) == [FindingKind.MISSING]
    assert compared((0, 0), (2, 0), (2, 0), (2, 0)) == [FindingKind.MISSING] * 2
    # Where events were lost, this is reported already, and a start can be among them.
    assert compared((0, 0), (2, 1), (2, 1), lost=1) == [FindingKind.UNKNOWN_WINDOW]
    assert compared((0, 0), (2, 1), (2, 1), lossy=True) == []


def test_a_beat_counts_all_containers_that_started_before_the_previous_one() -> None:
    assert compared((0, 0), (1, 2), (1, 2)) == [FindingKind.MALFORMED]
    assert compared((0, 0), (3, 3), (2, 3)) == [FindingKind.UNKNOWN_WINDOW]


def judged(tmp_path: Path, lines: list[bytes], since: state.State | None = None) -> Verdict:
    log = b"".join([b.ima_ng("boot_aggregate", b""), *lines])
    values = {pcr: b.extended(log, pcr) for pcr in (10, 11)}
    data = b.attest(NONCE, hashlib.sha256(values[10] + values[11]).digest())
    sig = b.sign(KEY, data, scheme=0x0018)
    bundle = b.write_bundle(tmp_path / "quoted", attest=data, sig=sig, log=log, nonce=NONCE, values=values)
    return verify(bundle, ak=b.pem(KEY), nonce=NONCE, since=since)


def start(seq: int, flags: int = 0) -> bytes:
    return b.ima_buf("ctr-start", b.ctr_start(b.libpod(f"{seq:064x}"), seq=seq, flags=flags))


ATTACHED = b.ima_buf("ctr-beat", b.ctr_beat(1, 1))


def test_a_container_that_ran_before_is_its_own_window(tmp_path: Path) -> None:
    verdict = judged(tmp_path, [start(1, flags=2), ATTACHED, start(2)])
    (finding,) = (one for one in verdict.findings if not one.informative)
    assert (finding.kind, finding.container) == (FindingKind.UNKNOWN_WINDOW, "1")
    assert verdict.judgement is Judgement.UNTRUSTED
    assert verdict.container_judgement("1") is Judgement.UNTRUSTED
    assert verdict.container_judgement("2") is Judgement.TRUSTED


def test_a_gap_is_everybodys(tmp_path: Path) -> None:
    verdict = judged(tmp_path, [ATTACHED, start(1), b.ima_buf("ctr-beat", b.ctr_beat(3))])
    assert [finding.kind for finding in verdict.findings] == [FindingKind.UNKNOWN_WINDOW]
    assert verdict.container_judgement("1") is Judgement.UNTRUSTED
    assert verdict.state is None


def test_each_pcr_has_beats_of_its_own(tmp_path: Path) -> None:
    other = [b.ima_buf("ctr-beat", b.ctr_beat(number, event), pcr=10) for number, event in ((1, 1), (2, 3))]
    assert judged(tmp_path, [other[0], ATTACHED, start(1), other[1]]).ok


def test_only_a_log_with_containers_and_no_beat_has_the_note(tmp_path: Path) -> None:
    for lines, noted in (([start(1)], True), ([start(1), ATTACHED], False), ([ATTACHED], False), ([], False)):
        verdict = judged(tmp_path, lines)
        assert verdict.ok or not lines
        assert any("no ctr-beat" in note for note in verdict.notes) == noted


def test_the_state_has_the_last_beat_and_the_images(tmp_path: Path) -> None:
    tree = b"t" * 32
    lines = [ATTACHED, start(1), b.ima_buf("ctr-image", b.ctr_image(tree)), b.ima_buf("ctr-launch", b.ctr_launch(tree))]
    first = judged(tmp_path, lines)
    assert first.containers["1"].image_digest == tree.hex()
    assert first.state is not None
    saved = state.parse_state(state.encode_state(first.state), "state")
    assert saved.trees == (tree.hex(),)
    assert saved.beats == {11: Beat(number=1, time=40_000_000_001, interval=0, lost=0, containers=1, started=0)}
    again = b.ima_buf("ctr-launch", b.ctr_launch(tree, seq=2))
    lines += [start(2), again]
    for number, ok in ((2, True), (3, False)):
        more = [*lines, b.ima_buf("ctr-beat", b.ctr_beat(number, 3))]
        later = judged(tmp_path, more, saved)
        assert later.ok is ok
        assert later.containers["2"].image_digest == tree.hex()
        assert later.containers["1"].image_digest == tree.hex()


def test_an_image_without_a_digest_is_its_containers_alone(tmp_path: Path) -> None:
    lines = [ATTACHED, start(1), start(2), b.ima_buf("ctr-image", b.ctr_image(bytes(32), outcome=3))]
    verdict = judged(tmp_path, [*lines, b.ima_buf("ctr-launch", b.ctr_launch(bytes(32), outcome=3, seq=2))])
    (finding,) = verdict.findings
    assert (finding.kind, finding.container) == (FindingKind.NO_CONTENT, "2")
    assert finding.got == "none: over the limit of bytes"
    assert verdict.container_judgement("1") is Judgement.TRUSTED
    assert verdict.containers["2"].image_digest == ""


def test_a_violation_names_path_and_container(tmp_path: Path) -> None:
    lines = [
        ATTACHED,
        start(1),
        start(2),
        b.ima_buf("ctr-violation", b.ctr_violation(b"/bin/\xff", seq=2, violation=2)),
    ]
    (finding,) = judged(tmp_path, lines).findings
    assert (finding.kind, finding.container) == (FindingKind.VIOLATION, "2")
    assert finding.where.endswith("PCR 11: container 2")
    assert finding.got == "'/bin/\\xff', inode 77 of device 8:1: opened for writing while it was in use"
