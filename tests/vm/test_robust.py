"""One boot a kernel: what strains the measurer, or lies to it, loses no entry and harms nobody."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
import robust
import stress
from booted import Saves
from robust import Contained, Subject, below, payload_of

from testbed.attest.entries import parse
from testbed.attest.entries.parse import FileEntry
from testbed.attest.finding import FindingKind
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import Entry
from testbed.attest.observed import observe
from testbed.attest.truth import compare
from testbed.lab.block import Parts
from testbed.measurers import Executed

KERNELS = ("debian-6.1", "debian-6.12")
FILES, STARTS, PROCESSES = 2000, 20, 8
LEVELS, TREE_FILES = 5000, 20_000
SPARSE = 256 << 20
LENGTHS = (120, 300, 4000, 4095, 4096, 5000)
PATH_MAX, DELETED = 4096, len(" (deleted)")
# Each in a directory of its own. The last is a name, not what the kernel says of a file that has gone.
NAMES = (b"\xff\xfe\x80", b"two words", b"new\nline", b"%s%n%41", b"back\\slash\\x41", b"4026531840:/x", b"x (deleted)")
# What the verifier finds of a memfd that is not sealed, of tmpfs, and of code that is changed while it is used.
OF_MEMORY = {FindingKind.NOT_BOUND, FindingKind.VIOLATION}


@pytest.fixture(scope="module", params=KERNELS)
def subject(
    request: pytest.FixtureRequest, saves: Saves, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    with robust.subject(saves, parts[request.param], tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def contents(files: list[FileEntry]) -> list[tuple[bytes, bytes]]:
    return [(one.path, one.digest) for one in files]


def numbered(place: str, count: int) -> Counter[tuple[bytes, bytes]]:
    """Return the truth of so many files that are called by their numbers, each once."""
    names = [b"%d" % number for number in range(count)]
    return Counter((place.encode() + b"/" + name, digest(stress.program(name))) for name in names)


def seq_of(entry: Entry) -> int:
    """Return the number of the container that an entry speaks of, 0 if of none."""
    container = getattr(payload_of(entry), "container", None)
    return container.seq if container else 0


def test_two_thousand_files_are_two_thousand_entries(subject: Subject) -> None:
    place = subject.place("many")
    with subject.counting():
        files, _ = subject.play(f"many({place!r}, {FILES})")
    assert Counter(contents(below(files, place))) == numbered(place, FILES)


def test_eight_processes_execute_at_once(subject: Subject) -> None:
    place = subject.place("storm")
    with subject.counting():
        files, _ = subject.play(f"storm({place!r}, {PROCESSES}, 40)")
    assert Counter(contents(below(files, place))) == numbered(place, 40)


def test_twenty_containers_at_once_keep_apart(subject: Subject) -> None:
    roots = [f"/root/small/{number}" for number in range(STARTS)]
    subject.prepare(f"[(os.makedirs(root), write(root + '/it', program(root.encode()))) for root in {roots}]")
    started = [Contained(root=root, argv=("/it",)) for root in roots]
    truth = []
    for one in started:
        content = stress.program(one.root.encode())
        ran = Executed(container=one.id, path=PurePosixPath("/it"), digest=digest(content).hex(), size=len(content))
        truth.append(ran)
    with subject.counting(starts=STARTS, containers=STARTS, files=STARTS):
        subject.start(*started)
    attested, verdict = subject.judged()
    assert verdict.ok, verdict.findings
    ids = {one.id for one in started}
    numbers = {int(seq) for seq, known in verdict.containers.items() if known.runtime_id in ids}
    assert len(numbers) == STARTS
    theirs = [one for one in attested if seq_of(one) in numbers]
    assert compare(theirs, robust.MEASURER.claim(truth), verdict.containers, truth) == []
    assert len(theirs) == 2 * STARTS, "a start and a file each, and each once"


def test_paths_of_all_lengths(subject: Subject) -> None:
    place = subject.place("long")
    # Two files of each length: none with its name, from the length on at which one has no path.
    pathless = sum((length >= PATH_MAX) + (length + DELETED >= PATH_MAX) for length in LENGTHS)
    with subject.counting(no_path=pathless):
        files, _ = subject.play(f"lengths({place!r}, {LENGTHS})")
    for length in LENGTHS:
        base = f"{place}/{length}"
        path = "/".join([base, *stress.long_path(base, length), "x"]).encode()
        assert len(path) == length
        # PATH_MAX has room for the path and a zero byte, and for " (deleted)" while that is with it.
        there = (path, 0) if length < PATH_MAX else (b"", parse.NO_PATH)
        gone = (path, 0) if length + DELETED < PATH_MAX else (b"", parse.NO_PATH)
        gone = (gone[0], gone[1] | parse.UNLINKED)
        for tag, expected in ((b"%d" % length, there), (b"%d gone" % length, gone)):
            assert [(f.path, f.flags) for f in files if f.digest == digest(stress.program(tag))] == [expected], tag


def test_names_of_all_kinds(subject: Subject) -> None:
    place = subject.place("names")
    with subject.counting():
        files, _ = subject.play(f"names({place!r}, {NAMES})")
    truth = []
    for number, name in enumerate(NAMES):
        path = b"%s/%d/%s" % (place.encode(), number, name)
        truth += [(path, digest(stress.program(name)), 0)]
        truth += [(path, digest(stress.program(name + b" gone")), parse.UNLINKED)]
    assert [(one.path, one.digest, one.flags) for one in below(files, place)] == truth
    memory = {(one.path, one.flags) for one in files if one.digest == digest(stress.program(b"memory"))}
    assert memory == {(b"/memfd:4026531840:/x (deleted)", parse.ANON_FILE | parse.NOT_BOUND)}
    # What the verifier makes of them is what they are.
    seen = {one.path.encode(errors="surrogateescape") for one in observe(subject.log(), {})}
    assert {path for path, *_ in truth} <= seen


def test_a_descriptor_that_passes_by_the_page_cache(subject: Subject) -> None:
    place = subject.place("direct")
    with subject.counting():
        files, _ = subject.play(f"direct({place!r})")
    assert contents(below(files, place)) == [(b"/volume/direct/direct", digest(b"direct" * 1000))]
    # The log is still whole: it is read to its end.
    attested, verdict = subject.judged()
    assert {one.kind for one in verdict.findings} <= OF_MEMORY
    assert len(attested) == len(subject.log())


def test_a_store_through_a_mapping_is_seen_on_every_file_system(subject: Subject) -> None:
    # A tmpfs, an overlay's upper layer (which is one, too), a disk.
    places = ["/mnt/memory", "/root", subject.place("stored")]
    with subject.counting():
        files, _ = subject.play(f"stored(*{places})")
    truth = {(b"/memfd:stored (deleted)", digest(stress.padded(b"after memory", 7)))}
    truth |= {(f"{place}/stored".encode(), digest(stress.padded(b"after " + place.encode(), 7))) for place in places}
    truth |= {(path, digest(stress.padded(b"before"))) for path, _ in truth}
    # Each once, by whatever routes its code came, though it is hashed at each of them.
    assert Counter(one for one in contents(files) if b"stored" in one[0]) == Counter(truth)


def test_memory_that_has_a_file_and_memory_that_has_none(subject: Subject) -> None:
    with subject.counting(anon_exec=3):
        files, _ = subject.play("memory(3)")
    assert {(one.path, one.digest, one.flags) for one in files if one.flags} == {
        (b"/SYSV00000000 (deleted)", digest(bytes(8192)), parse.ANON_FILE | parse.NOT_BOUND),
    }, "no huge pages are set aside, so the mapping of the memfd was refused"


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_executing_while_it_is_unmounted(subject: Subject, kind: str) -> None:
    count, at = 60, "/mnt/going"
    place = subject.place(f"going-{kind}")
    with subject.counting():
        files, _ = subject.play(f"going({place!r}, {kind!r}, {at!r}, {count})")
    of = {digest(stress.program(f"{kind} {number}".encode())): number for number in range(count)}
    got = [(of[one.digest], one.path, one.flags) for one in files if one.digest in of]
    assert {number for number, *_ in got} == set(range(count))
    # The path of what has gone begins where its mount did, and the flag says that it leads nowhere.
    bound = parse.NOT_BOUND if kind == "tmpfs" else 0
    for number, path, flags in got:
        there, gone = (f"{at}/{number}".encode(), bound), (f"/{number}".encode(), parse.UNLINKED | bound)
        assert (path, flags) in {there, gone}
    assert parse.UNLINKED in {flags & parse.UNLINKED for *_, flags in got}


@pytest.mark.parametrize(("tree", "size"), [("deep_tree", LEVELS), ("wide_tree", TREE_FILES)])
def test_trees_that_no_image_has(subject: Subject, tree: str, size: int) -> None:
    root = f"/root/{tree}"
    subject.prepare(f"{tree}('{root}/tree', {size}); write('{root}/it', program(b'{tree}'))")
    one = Contained(root=root, argv=("/it",))
    with subject.counting():
        subject.start(one)
    assert contents(subject.files(one)) == [(b"/it", digest(stress.program(tree.encode())))]


def test_digests_that_begin_with_a_zero_byte(subject: Subject) -> None:
    place = subject.place("zero")
    nonces = (b"nonce %d" % number for number in itertools.count())
    tags = tuple(itertools.islice((tag for tag in nonces if digest(stress.program(tag))[0] == 0), 2))
    with subject.counting():
        files, _ = subject.play(f"zero({place!r}, {tags})")
    mine = below(files, place)
    assert [one.digest for one in mine] == [digest(stress.program(tag)) for tag in tags]
    bound = {parse_fields(entry).digest for entry in subject.log() if payload_of(entry) in mine}
    assert len(bound) == 2


def test_names_of_one_file(subject: Subject) -> None:
    place = subject.place("links")
    with subject.counting():
        files, _ = subject.play(f"links({place!r})")
    # One file is one entry, until it changes; to be renamed is a change of the inode.
    got = contents(below(files, place))
    assert got == [(f"{place}/{name}".encode(), digest(stress.program(b"links"))) for name in ("first", "third")]


def test_what_is_no_program_is_refused_at_once(subject: Subject) -> None:
    place = subject.place("odd")
    with subject.counting():
        files, said = subject.play(f"odd({place!r})")
    assert said.strip() == "[13, 13, 13, 13]"
    assert [one.path for one in below(files, place)] == [b"/volume/odd/script"]


def test_a_script_of_a_script_of_a_script(subject: Subject) -> None:
    place = subject.place("chain")
    with subject.counting():
        files, _ = subject.play(f"chain({place!r}, 4)")
    texts = [stress.program(b"chain", 5), *(f"#!{place}/{number}\n".encode() for number in range(3))]
    truth = [(f"{place}/{number}".encode(), digest(texts[number])) for number in (3, 2, 1, 0)]
    assert contents(below(files, place)) == truth


def test_a_file_that_is_replaced_all_the_time(subject: Subject) -> None:
    place, versions = subject.place("new"), 100
    with subject.counting():
        files, said = subject.play(f"replaced({place!r}, {versions})")
    of = {digest(stress.program(b"%d" % number, number)): number for number in range(versions)}
    mine = below(files, place)
    assert {one.path for one in mine} == {b"/volume/new/it"}
    seen = {int(word) for word in said.split()}
    assert len(seen) > 3
    assert seen == {of[one.digest] for one in mine}


def test_a_container_that_is_killed_while_its_file_is_hashed(subject: Subject) -> None:
    place = subject.place("sparse")
    one = robust.scenario(f"sparse({place!r}, {SPARSE})")
    before = subject.counters()["bytes_hashed"]
    # Nobody could run what it was about to get, so nothing is lost.
    with subject.counting(killed=1):
        code = subject.start(one, kill_after=4 << 20).text
    assert int(code) == 128 + 9
    assert subject.counters()["bytes_hashed"] - before < SPARSE, "hashing goes on after the end"
    assert below(subject.files(one), place) == []


def test_the_kernel_has_nothing_to_say(subject: Subject) -> None:
    assert subject.splats() == []
    attested, verdict = subject.judged()
    # Code in memory that can be written to, and code that was changed while it was used.
    assert {one.kind for one in verdict.findings} <= OF_MEMORY
    assert len(attested) == len(subject.log())
