"""The saved state: what a quote may say after it, and a file that is read strictly or not at all."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import evidence as b
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.attest import quote, roster, tpm
from testbed.attest.beats import Beat
from testbed.attest.finding import Container
from testbed.attest.hashes import BANKS
from testbed.attest.saved import state
from testbed.attest.saved.containers import SavedContainer
from testbed.attest.saved.resume import quote_findings
from testbed.attest.saved.state import (
    Part,
    Segment,
    State,
    applies,
    encode_state,
    fingerprint,
    load_state,
    parse_state,
    same_policy,
    save_state,
)
from testbed.errors import SpecError

PART = {"part": "module", "digest": "ab" * 32}
BEAT = {"pcr": 11, "number": 4, "time": 7, "interval": 5, "lost": 0, "containers": 2, "started": 1}
ECC = ec.generate_private_key(ec.SECP256R1())
CONTAINER = Container(
    seq=3,
    mntns=4026532500,
    cgroup=7003,
    started=30,
    cgroup_path="/a\\xff/é",
    entries=4,
    image_digest="03" * 32,
    parent=2,
)
GOOD = State(
    key="ab" * 32,
    policy="07" * 32,
    bank="sha256",
    starts={10: bytes(32), 11: b"c" * 32},
    pcrs={10: b"a" * 32, 11: b"b" * 32},
    counts={10: 5, 11: 4},
    offset=900,
    entries=9,
    seen_bytes=1000,
    seen_entries=10,
    clock=5000,
    reset_count=7,
    restart_count=2,
    firmware=0x2019102300163636,
    segments=(Segment(size=800, sha256="01" * 32), Segment(size=100, sha256="02" * 32)),
    containers=(SavedContainer(container=CONTAINER, images=("a", "b"), counts_as=3),),
    measurer=(Part(part="loader", digest="05" * 32), Part(part="module", digest="05" * 32)),
    trees=("03" * 32, "04" * 32),
    beats={11: Beat(number=2**64 - 1, time=9, interval=0, lost=3, containers=5, started=4)},
    padded_sha1=True,
)
LEAST = replace(
    GOOD,
    policy=None,
    counts={10: 1, 11: 0},
    offset=1,
    entries=1,
    segments=(Segment(size=1, sha256="01" * 32),),
    containers=(),
    trees=(),
    measurer=(),
    beats={},
    seen_bytes=1,
    seen_entries=1,
)


def attest(**changes: Any) -> quote.Attest:
    parsed = quote.parse_attest(b.attest(b"n", b"d" * 32))
    assert parsed is not None
    same = {"clock": 5000, "reset_count": 7, "restart_count": 2}
    return replace(parsed, **(same | changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"clock": 5001}, []),
        ({"clock": 4999}, ["quote-clock"]),
        ({"clock": 4999, "safe": False}, ["quote-clock"]),
        ({"clock": 6000, "safe": False}, []),
        ({"reset_count": 8, "restart_count": 0}, ["quote-reset"]),
        ({"reset_count": 6}, ["quote-reset"]),
        ({"clock": 1, "reset_count": 0}, ["quote-clock", "quote-reset"]),
        ({"restart_count": 3}, []),
        ({"restart_count": 1}, ["quote-reset"]),
        ({"firmware": 1}, ["quote-signer"]),
    ],
)
def test_what_a_quote_may_say_after_the_saved_one(changes: dict[str, Any], expected: list[str]) -> None:
    assert [finding.kind.value for finding in quote_findings(GOOD, attest(**changes))] == expected


def test_an_unsafe_clock_is_told() -> None:
    (finding,) = quote_findings(GOOD, attest(clock=4000, safe=False))
    assert (finding.where, finding.expected) == ("quote.attest: clock", "5000 or later")
    assert finding.got.startswith("4000; not safe")
    (finding,) = quote_findings(GOOD, attest(clock=4000))
    assert finding.got == "4000"


@pytest.mark.parametrize(("saved", "now", "lower"), [(2**32 - 1, 0, False), (0, 2**32 - 1, True), (5, 2**31, False)])
def test_a_restart_count_with_a_number_added_by_the_tpm(saved: int, now: int, lower: bool) -> None:
    """Outside the endorsement hierarchy a constant is added modulo 2^32, so a counter may pass zero."""
    found = quote_findings(replace(GOOD, restart_count=saved), attest(restart_count=now))
    assert bool(found) is lower


def test_a_key_has_one_fingerprint() -> None:
    pem, public = tpm.load_key(b.pem(ECC)), tpm.load_key(b.tpm2b_public(ECC))
    assert fingerprint(pem) == fingerprint(public)
    assert fingerprint(pem) != fingerprint(tpm.load_key(b.pem(ec.generate_private_key(ec.SECP256R1()))))


def test_it_applies_to_its_key_and_pcrs() -> None:
    applies(GOOD, "ab" * 32, "sha256", (11, 10))
    for key, bank, pcrs in [
        ("ac" * 32, "sha256", (10, 11)),
        ("ab" * 32, "sha384", (10, 11)),
        ("ab" * 32, "sha256", (10,)),
    ]:
        with pytest.raises(SpecError, match=r"saved state: (attestation key|PCRs): expected .* got") as caught:
            applies(GOOD, key, bank, pcrs)
        assert "--since" in caught.value.hint


def test_it_applies_to_the_policy_that_judged_the_past() -> None:
    same_policy(GOOD, "07" * 32)
    same_policy(LEAST, None)
    for saved, now in ((GOOD, "08" * 32), (GOOD, None), (LEAST, "07" * 32)):
        with pytest.raises(SpecError, match=r"saved state: policy.*expected .* got") as caught:
            same_policy(saved, now)
        assert "--rejudge" in caught.value.hint


def test_a_state_without_an_attested_entry_is_rejected() -> None:
    """An older version could save it of a machine on which no IMA ran."""
    raw = json.loads(encode_state(LEAST)) | {"counts": {"10": 0, "11": 0}, "offset": 0, "entries": 0, "segments": []}
    with pytest.raises(SpecError, match="entries: expected at least one"):
        parse_state(json.dumps(raw).encode(), "state.json")


@pytest.mark.parametrize("value", [GOOD, LEAST], ids=["good", "least"])
def test_what_was_saved_is_read(tmp_path: Path, value: State) -> None:
    path = tmp_path / "state.json"
    save_state(path, GOOD)
    save_state(path, value)
    assert load_state(path) == value
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == encode_state(replace(value, pcrs=dict(reversed(list(value.pcrs.items())))))
    assert [child.name for child in tmp_path.iterdir()] == ["state.json"]


def test_a_link_leads_to_the_file_that_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    save_state(tmp_path / "link", GOOD)
    assert (tmp_path / "link").is_symlink()
    assert load_state(tmp_path / "real") == GOOD


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    for name in ("fifo", "directory", "no/such/state", "loop", "nul\0byte", "x" * 300):
        with pytest.raises(SpecError, match="expected a"):
            save_state(tmp_path / name, GOOD)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(SpecError, match="No space left"):
        save_state(tmp_path / "state.json", GOOD)
    assert sorted(tmp_path.iterdir()) == before


def test_a_state_that_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "SIZE_MAX", 100)
    with pytest.raises(SpecError, match="at most 100 bytes") as caught:
        save_state(tmp_path / "state.json", GOOD)
    assert "--recheck" in caught.value.hint
    with pytest.raises(SpecError, match="at most 100 bytes"):
        parse_state(bytes(101), "s")


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "none", tmp_path / "nul\0byte"):
        with pytest.raises(SpecError, match="expected a plain file") as caught:
            load_state(path)
        assert "--since" in caught.value.hint


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(SpecError, match=f"at most {state.SIZE_MAX} bytes, got more"):
        load_state(path)


def flat() -> dict[str, Any]:
    return dict(json.loads(encode_state(GOOD)))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("schema", 1, "schema: expected 4, got 1"),
        ("schema", 3, "schema: expected 4, got 3"),
        ("schema", 5, "schema"),
        ("schema", True, "schema"),
        ("schema", 2.0, "schema"),
        ("key", "AB" * 32, "key: expected 32 bytes in lower-case hex"),
        ("key", "ab" * 31, "key"),
        ("key", "ab" * 32 + "\n", "key"),
        ("key", 5, "key"),
        ("policy", "ab", "policy: expected 32 bytes"),
        ("policy", "", "policy: expected 32 bytes"),
        ("starts", {"10": "00" * 32}, "starts: expected the same PCRs as in `pcrs`"),
        ("starts", {"10": "00" * 32, "11": "00"}, "starts: 11: expected 32 bytes"),
        ("bank", "md5", "bank: expected one of sha1"),
        ("bank", "sha384", "(pcrs|starts): 10: expected 48 bytes"),
        ("pcrs", {}, "pcrs: expected an object with numbers below 24"),
        ("pcrs", {"24": "00" * 32}, "pcrs"),
        ("pcrs", {"010": "00" * 32}, "pcrs"),
        ("pcrs", {"-1": "00" * 32}, "pcrs"),
        ("pcrs", {"10": "61" * 32}, r"(counts|starts): expected the same PCRs as in `pcrs`, got \[10, 11\]"),
        ("pcrs", [], r"pcrs.*got \[\]"),
        ("counts", {"10": 5, "11": 5}, "entries: expected the sum of counts, got 9"),
        ("counts", {"10": 10, "11": -1}, "counts: 11"),
        ("counts", {"10": 9, "12": 0}, "counts: expected the same PCRs as in `pcrs`"),
        ("entries", 10, "entries"),
        ("entries", 1 << 63, "entries: expected a number"),
        ("entries", 10**4000, "entries"),
        ("offset", 901, "offset: expected the sum of segments"),
        ("segments", [], "offset: expected the sum of segments"),
        ("segments", {}, "segments: expected a list"),
        ("segments", [5], r"segments\[0\]: expected an object, got 5"),
        ("segments", [{"size": 900, "sha256": "01" * 32, "more": 1}], r"segments\[0\]: expected no other keys"),
        ("segments", [{"size": 900}], r"segments\[0\]: sha256: expected this key, got none"),
        ("segments", [{"size": 0, "sha256": "01" * 32}], r"segments\[0\]: size"),
        ("seen_bytes", 899, "seen_bytes: expected offset or more"),
        ("seen_entries", 8, "seen_entries: expected entries or more"),
        ("clock", -1, "clock"),
        ("clock", 1 << 64, "clock"),
        ("reset_count", 1 << 32, "reset_count"),
        ("restart_count", "1", "restart_count"),
        ("firmware", None, "firmware"),
        ("padded_sha1", 1, "padded_sha1: expected true or false, got 1"),
        ("containers", [[]], r"containers\[0\]: expected a list of 10 values"),
        ("containers", [{}], r"containers\[0\]: expected a list of 10 values"),
        ("containers", {}, "containers: expected a list"),
        ("image_digests", [], r"containers\[0\]: digest"),
        ("image_digests", ["03" * 32, "04" * 32], "image_digests: expected those of the rows"),
        ("image_digests", ["ab"], "image_digests: expected digests"),
        ("image_sets", [], r"containers\[0\]: images"),
        ("image_sets", [["a", "b"], []], "image_sets: expected those of the rows"),
        ("image_sets", [["a", "b"], ["c"]], "image_sets: expected those of the rows"),
        ("image_sets", [["b", "a"]], r"image_sets\[0\]: names: expected different texts in order"),
        ("image_sets", [["a", "a"]], "different texts"),
        ("image_sets", ["ab"], "a list"),
        ("image_sets", [["\udfff"]], "different texts"),
        ("drift", 3, "drift: expected a list"),
        ("drift", [], "drift: expected different numbers in order"),
        ("drift", [True], "drift: expected different numbers in order"),
        ("drift", [3, 3], "drift: expected different numbers in order"),
        ("drift", [4], "drift: expected containers with an image digest"),
        ("trees", ["ab" * 31], "trees: expected digests of 32 bytes"),
        ("trees", ["AB" * 32], "trees: expected digests of 32 bytes"),
        ("trees", ["ab" * 32] * 2, "trees: expected different texts"),
        ("trees", "ab" * 32, "trees: expected a list"),
        ("measurer", {}, "measurer: expected a list"),
        ("measurer", [PART | {"part": "kernel"}], r"measurer\[0\]: part: expected one of module"),
        ("measurer", [PART | {"digest": "ab"}], r"measurer\[0\]: digest"),
        ("measurer", [PART, PART], "measurer: expected different parts in order"),
        ("measurer", [PART, PART | {"part": "loader"}], "measurer: expected different parts in order"),
        ("beats", {}, "beats: expected a list"),
        ("beats", [BEAT | {"number": 0}], r"beats\[0\]: number"),
        ("beats", [BEAT | {"time": 1 << 64}], r"beats\[0\]: time"),
        ("beats", [BEAT | {"pcr": 24}], r"beats\[0\]: pcr"),
        ("beats", [BEAT | {"pcr": 12}], "beats: expected PCRs of `pcrs`"),
        ("beats", [BEAT, BEAT], "beats: expected each PCR once"),
        ("beats", [BEAT | {"attached": True}], r"beats\[0\]: expected no other keys"),
        ("unknown", 1, "no other keys.*got 'unknown'"),
    ],
)
def test_a_file_that_is_not_as_it_must_be(key: str, value: object, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        parse_state(json.dumps(flat() | {key: value}).encode(), "state.json")
    assert caught.value.message.startswith("state.json")
    assert len(caught.value.message) < 400
    assert "--since" in caught.value.hint


ROW = ("seq", "mntns", "cgroup", "started", "parent", "counts_as", "entries", "digest", "images", "cgroup_path")


def with_container(key: str, value: object) -> bytes:
    raw = flat()
    raw["containers"][0][ROW.index(key)] = value
    return json.dumps(raw).encode()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seq", 0),
        ("seq", 1 << 64),
        ("seq", True),
        ("entries", 0),
        ("entries", 10),
        ("cgroup_path", None),
        ("cgroup_path", "\ud800"),
        ("digest", 1),
        ("digest", -2),
        ("digest", None),
        ("images", 1),
        ("images", -2),
        ("images", [[]]),
        ("parent", -1),
        ("parent", None),
        ("counts_as", 0),
        ("counts_as", 4),
    ],
)
def test_a_container_that_is_not_as_it_must_be(key: str, value: object) -> None:
    with pytest.raises(SpecError, match=r"state\.json: containers"):
        parse_state(with_container(key, value), "state.json")


def test_containers_come_once_and_in_order() -> None:
    raw = flat()
    one = raw["containers"][0]
    for containers in ([one, one], [one, [1, *one[1:]]]):
        with pytest.raises(SpecError, match="each seq once, in order"):
            parse_state(json.dumps(raw | {"containers": containers}).encode(), "state.json")


@pytest.mark.parametrize(
    ("path", "parent", "name"),
    [
        (f"/machine.slice/libpod-{'5f' * 32}.scope", 0, "5f" * 32),
        (f"/machine.slice/libpod-{'5f' * 32}.scope", 2, None),
        (f"/a/{'5f' * 32}/b/{'6f' * 32}", 0, None),
        ("/a/b", 0, None),
    ],
)
def test_the_runtime_id_is_read_from_the_path(path: str, parent: int, name: str | None) -> None:
    container = replace(CONTAINER, cgroup_path=path, parent=parent, runtime_id=name)
    value = replace(GOOD, containers=(SavedContainer(container=container, counts_as=3),))
    assert parse_state(encode_state(value), "s") == value


def test_a_state_has_room_for_as_many_containers_as_a_log_may_have() -> None:
    """Each with an engine's path and an image digest of its own."""
    containers = tuple(
        SavedContainer(
            container=Container(
                seq=seq,
                mntns=4026532500 + seq,
                cgroup=100_000 + seq,
                started=10**15 + seq,
                cgroup_path=f"/machine.slice/libpod-{seq:064x}.scope/container",
                runtime_id=f"{seq:064x}",
                image_digest=f"{seq:064x}",
                entries=1,
                parent=0,
            ),
            counts_as=seq,
            images=("localhost/some-image",),
        )
        for seq in range(1, roster.MOST + 1)
    )
    counts = {10: roster.MOST, 11: 0}
    value = replace(GOOD, counts=counts, entries=roster.MOST, seen_entries=roster.MOST, containers=containers)
    data = encode_state(value)
    assert len(data) <= state.SIZE_MAX
    assert parse_state(data, "s") == value


def test_containers_are_written_in_order() -> None:
    two = tuple(SavedContainer(container=replace(CONTAINER, seq=seq), images=("z", "a"), counts_as=1) for seq in (2, 1))
    read = parse_state(encode_state(replace(GOOD, containers=two)), "s")
    assert [(one.container.seq, one.images) for one in read.containers] == [(1, ("a", "z")), (2, ("a", "z"))]


TEXT = encode_state(GOOD)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        TEXT[:-3],
        TEXT + b"{}",
        TEXT.replace(b'"clock"', b'"offset"'),
        TEXT.replace(b"5000", b"NaN"),
        TEXT.replace(b"5000", b"5e3"),
        TEXT.replace(b"5000", b"9" * 5000),
        b"[" * 100_000,
        b'{"schema":' * 100_000,
    ],
)
def test_what_is_no_such_json(data: bytes) -> None:
    with pytest.raises(SpecError, match=r"state\.json"):
        parse_state(data, "state.json")


def test_a_value_that_is_nested_as_deep_as_json_takes_it() -> None:
    """Somewhere between what the parser takes and what `repr` takes there must be no traceback."""
    for depth in range(900, 1010, 3):
        with pytest.raises(SpecError):
            parse_state(TEXT.replace(b"5000", b"[" * depth + b"]" * depth), "state.json")


NUMBERS = st.integers(0, (1 << 64) - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PARTS = st.sampled_from(["module", "object", "loader"])
SHA256 = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def known(draw: st.DrawFn, seq: int) -> SavedContainer:
    path, parent = draw(TEXTS | SHA256.map("/{}".format)), draw(st.just(0) | NUMBERS)
    digest = draw(st.just("") | SHA256)
    container = Container(
        seq=seq,
        mntns=draw(NUMBERS),
        cgroup=draw(NUMBERS),
        started=draw(NUMBERS),
        cgroup_path=path,
        runtime_id=path[1:] if len(path) == 65 and not parent else None,
        image_digest=digest,
        entries=1,
        parent=parent,
        drift=bool(digest) and draw(st.booleans()),
    )
    return SavedContainer(container=container, images=tuple(sorted(draw(st.sets(TEXTS, max_size=3)))), counts_as=seq)


@st.composite
def states(draw: st.DrawFn) -> State:
    bank = draw(st.sampled_from(sorted(BANKS)))
    pcrs = sorted(draw(st.sets(st.integers(0, 23), min_size=1, max_size=4)))
    counts = {pcr: draw(st.integers(1, 1 << 40)) for pcr in pcrs}
    entries = sum(counts.values())
    sizes = draw(st.lists(st.integers(1, 1 << 40), min_size=1, max_size=3))
    seqs = sorted(draw(st.sets(st.integers(1, (1 << 64) - 1), max_size=min(3, entries))))
    return State(
        key=draw(SHA256),
        policy=draw(st.none() | SHA256),
        bank=bank,
        starts={pcr: draw(st.binary(min_size=BANKS[bank], max_size=BANKS[bank])) for pcr in pcrs},
        pcrs={pcr: draw(st.binary(min_size=BANKS[bank], max_size=BANKS[bank])) for pcr in pcrs},
        counts=counts,
        offset=sum(sizes),
        entries=entries,
        seen_bytes=sum(sizes) + draw(st.integers(0, 1 << 40)),
        seen_entries=entries + draw(st.integers(0, 1 << 40)),
        clock=draw(NUMBERS),
        reset_count=draw(st.integers(0, (1 << 32) - 1)),
        restart_count=draw(st.integers(0, (1 << 32) - 1)),
        firmware=draw(NUMBERS),
        segments=tuple(Segment(size=size, sha256=draw(SHA256)) for size in sizes),
        containers=tuple(draw(known(seq)) for seq in seqs),
        measurer=tuple(Part(part=part, digest=draw(SHA256)) for part in sorted(draw(st.sets(PARTS)))),
        padded_sha1=draw(st.booleans()),
    )


@settings(deadline=None)
@given(states())
def test_every_state_is_read_as_it_was_written(value: State) -> None:
    data = encode_state(value)
    assert parse_state(data, "s") == value
    assert encode_state(parse_state(data, "s")) == data
