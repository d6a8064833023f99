"""Reference policies: what they accept, and what of them is refused."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import evidence as b
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.attest.entries.mounts import OTHER_ROOT
from testbed.attest.entries.parse import BEFORE, LaunchEntry, MountsEntry, ProgramEntry, StartEntry, parse_payload
from testbed.attest.finding import Container, FindingKind
from testbed.attest.log.fields import Fields, parse_fields
from testbed.attest.log.ima import read_entries
from testbed.attest.policy import file as policy_file
from testbed.attest.policy import keys as policy_keys
from testbed.attest.policy.paths import escape_path, unescape_path
from testbed.attest.policy.reference import Policy, load_policy, parse_policy
from testbed.attest.roster import Roster
from testbed.errors import SpecError

EXAMPLE = b.GOLDEN / "policy" / "every-key.json"
SCHEMA = Path(__file__).parents[2] / "docs" / "policy.schema.json"
ABC, NONE = hashlib.sha256(b"abc").digest(), hashlib.sha256(b"").digest()
TEXT = f"sha256:{ABC.hex()}"


@pytest.fixture
def example() -> Policy:
    return load_policy(EXAMPLE)


def parse(**keys: Any) -> Policy:
    return parse_policy(json.dumps({"schema": 1} | keys).encode(), "p.json")


def refused(data: bytes | str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_policy(data.encode() if isinstance(data, str) else data, "p.json")
    assert caught.value.message.startswith("p.json: ")
    assert len(caught.value.message) < 1500
    assert caught.value.hint
    return caught.value.message


def fields(log: bytes) -> Fields:
    (entry,) = read_entries(log)
    return parse_fields(entry)


def container(runtime_id: str | None, path: str = "/machine.slice/libpod-{}.scope/container") -> Container:
    told = "" if runtime_id is None else path.format(runtime_id)
    return Container(seq=1, mntns=2, cgroup=3, started=4, runtime_id=runtime_id, cgroup_path=told)


def named(policy: Policy, one: Container) -> tuple[str, ...]:
    return policy.images_of(policy.key_of(one))


def launched(tree: bytes | None = b"\xee" * 32, config: bytes = bytes(32), **wish: Any) -> LaunchEntry:
    """A launch of an image of this tree, or of none that could be digested."""
    image, outcome = (bytes(32), 4) if tree is None else (tree, 0)
    args = wish.pop("args", (b"/bin/true",))
    payload = b.ctr_launch(image, args, outcome=outcome, config=config, **({"table": b.TABLE} | wish))
    parsed = parse_payload(b"ctr-launch", payload)
    assert isinstance(parsed, LaunchEntry)
    return parsed


def test_accepted_is_what_the_kernel_writes(example: Policy) -> None:
    none = hashlib.sha256(b"").digest()
    assert example.accepted == {
        b.digest_field(ABC) + b.field(b"/usr/bin/two_words\0"),
        b.digest_field(hashlib.sha1(b"abc").digest(), "sha1") + b.field(b"/usr/bin/two_words\0"),
        b.digest_field(hashlib.sha384(b"abc").digest(), "sha384") + b.field("/usr/bin/café\0".encode()),
        b.digest_field(hashlib.sha512(b"abc").digest(), "sha512") + b.field(b"/usr/bin/\xff%\0"),
        b.digest_field(none) + b.field(b"memfd:runc_cloned:self\0"),
        b.digest_field(none) + b.field(b"/var/cache/known\0"),
        b.digest_field(bytes(31) + b"\1") + b.field(b"boot_aggregate\0"),
    }
    assert example.verity == {b.digest_field(ABC, "verity:sha256") + b.field(b"/usr/bin/\xff%\0")}


@pytest.mark.parametrize(
    "log",
    [
        b.ima_ng("/usr/bin/two_words", b"abc"),
        b.ima_sig("/usr/bin/two_words", b"abc", b"\x03\x02"),
        b.ima_old("/usr/bin/two_words", b"abc"),
        b.entry(10, b"ima-ngv2", b.digest_field(ABC, "verity:sha256") + b.field(b"/usr/bin/\xff%\0")),
        b.entry(10, b"ima-ngv2", b.digest_field(ABC, "ima:sha256") + b.field(b"/usr/bin/two_words\0")),
        b.entry(10, b"ima-ng", b.digest_field(bytes(31) + b"\1") + b.field(b"boot_aggregate\0")),
        b.entry(10, b"ima-ng", b.digest_field(bytes(31) + b"\1") + b.field(b"boot_aggregate_late\0")),
    ],
)
def test_a_file_of_the_host_is_accepted_whatever_its_template(example: Policy, log: bytes) -> None:
    assert example.judge_host(fields(log)) is None


@pytest.mark.parametrize(
    ("given_fields", "kind", "expected"),
    [
        (Fields("sha256", NONE, b"/usr/bin/two_words"), FindingKind.WRONG_DIGEST, f"sha1:a9993e36.* or {TEXT}"),
        (Fields("sha256", ABC, b"/usr/bin/\xff%"), FindingKind.WRONG_DIGEST, f"sha512:.* or verity:{TEXT}"),
        (Fields("sha512", NONE, b"/usr/bin/\xff%", "verity"), FindingKind.WRONG_DIGEST, "sha512:.*"),
        (Fields("md5", bytes(16), b"/usr/bin/two_words"), FindingKind.WRONG_DIGEST, ".*"),
        (Fields("sha256", ABC, b"/usr/bin/two words"), FindingKind.UNKNOWN_FILE, "a file that the policy lists.*"),
        (Fields("sha256", ABC, b"/usr/bin/two_word"), FindingKind.UNKNOWN_FILE, ".*"),
        (Fields("sha256", ABC, b"/zzz"), FindingKind.UNKNOWN_FILE, ".*"),
        (Fields("sha256", ABC, b""), FindingKind.UNKNOWN_FILE, ".*"),
        (Fields("sha256", ABC, b"boot_aggregate"), FindingKind.WRONG_DIGEST, "sha256:0+1"),
        (Fields("sha256", ABC, b"boot_aggregate_late"), FindingKind.WRONG_DIGEST, "sha256:0+1"),
        (Fields("sha256", bytes(31) + b"\1", b"boot_aggregate_later"), FindingKind.UNKNOWN_FILE, ".*"),
        # not excused: listed, so judged by its digest; a line break; one that goes up again; one too long to be a path
        (Fields("sha256", ABC, b"/var/cache/known"), FindingKind.WRONG_DIGEST, "sha256:e3b0.*"),
        (Fields("sha256", ABC, b"/var/cache/a/x\ny"), FindingKind.UNKNOWN_FILE, ".*"),
        (Fields("sha256", ABC, b"/var/cache/a/../../../bin/sh"), FindingKind.UNKNOWN_FILE, ".*"),
        (Fields("sha256", ABC, b"/var/cache/a/" + b"x" * 4096), FindingKind.UNKNOWN_FILE, ".*"),
        (Fields("sha256", ABC, b"/var/cache/A/x"), FindingKind.UNKNOWN_FILE, ".*"),
        (Fields("sha256", ABC, b"/x/var/cache/a/x"), FindingKind.UNKNOWN_FILE, ".*"),
    ],
)
def test_a_file_of_the_host_is_complained_about(
    example: Policy, given_fields: Fields, kind: FindingKind, expected: str
) -> None:
    complaint = example.judge_host(given_fields)
    assert complaint is not None
    assert (complaint.kind, complaint.tolerated) == (kind, False)
    assert re.fullmatch(expected, complaint.expected), complaint.expected


def test_an_exclude_excuses_the_unknown(example: Policy) -> None:
    assert example.judge_host(Fields("sha256", ABC, b"/var/cache/apt/x..y/z")) is None


def test_only_the_unknown_is_tolerated_and_only_if_the_policy_says_so() -> None:
    host = {"files": {"/a": [TEXT]}, "buffers": {"e": [TEXT]}}
    images = {"i": {"files": {"/a": [TEXT]}}}
    for word in ("note", "reject"):
        policy = parse(host=host, images=images, on={"unknown": word})
        unknown, wrong = Fields("sha256", ABC, b"/b"), Fields("sha256", NONE, b"/a")
        found = [policy.judge_host(unknown), policy.judge_buffer(unknown), policy.judge_file(("i",), b"/b", ABC)[1]]
        assert [one and one.kind for one in found] == [FindingKind.UNKNOWN_FILE] * 3
        assert [one and one.tolerated for one in found] == [word == "note"] * 3
        found = [policy.judge_host(wrong), policy.judge_buffer(Fields("sha256", NONE, b"e"))]
        found.append(policy.judge_file(("i",), b"/a", NONE)[1])
        assert [one and one.kind for one in found] == [FindingKind.WRONG_DIGEST] * 3
        assert not any(one and one.tolerated for one in found)
    assert not policy.tolerates(FindingKind.VIOLATION)
    words = {
        "violation": "violation",
        "unknown": "unknown-file",
        "not-bound": "not-bound",
        "restart": "ambiguous-identity",
    }
    for word, kind in words.items():
        assert parse(on={word: "note"}).noted == {kind}


def test_an_empty_policy_accepts_nothing() -> None:
    policy = parse()
    for name in (b"boot_aggregate", b"/bin/sh", b""):
        complaint = policy.judge_host(Fields("sha256", ABC, name))
        assert complaint is not None
        assert complaint.kind is FindingKind.UNKNOWN_FILE


def test_buffers(example: Policy) -> None:
    assert example.judge_buffer(fields(b.ima_buf("kernel_info", b"abc", pcr=10))) is None
    wrong = example.judge_buffer(fields(b.ima_buf("kernel_info", b"", pcr=10)))
    assert wrong is not None
    assert (wrong.kind, wrong.expected) == (FindingKind.WRONG_DIGEST, TEXT)
    unknown = example.judge_buffer(fields(b.ima_buf(".ima", b"abc", pcr=10)))
    assert unknown is not None
    assert unknown.kind is FindingKind.UNKNOWN_FILE


def test_a_container_is_of_the_images_named_for_it(example: Policy) -> None:
    assert named(example, container(b.CONTAINER)) == ("two",)
    assert named(example, container("00" * 32)) == ("registry/one:1", "two")
    assert named(example, container(None)) == ("registry/one:1", "two")
    assert named(parse(), container(None)) == ()
    one = parse(images={"i": {}}, containers={b.CONTAINER: ["i"]})
    assert named(one, container("00" * 32)) == ()


def test_what_is_seen_narrows_the_images(example: Policy) -> None:
    both = ("registry/one:1", "two")
    assert example.judge_file(both, b"/bin/shared", ABC) == (both, None)
    assert example.judge_file(both, b"/bin/shared", NONE) == (("two",), None)
    assert example.judge_file(both, b"/bin/two words", ABC) == (("registry/one:1",), None)
    images, complaint = example.judge_file(("registry/one:1",), b"/bin/second", NONE)
    assert images == ("registry/one:1",)
    assert complaint is not None
    assert (complaint.kind, complaint.expected) == (FindingKind.UNKNOWN_FILE, "a file of image registry/one:1")


def test_a_wrong_file_leaves_the_images_as_they_are(example: Policy) -> None:
    both = ("registry/one:1", "two")
    images, complaint = example.judge_file(both, b"/bin/shared", bytes(32))
    assert images == both
    assert complaint is not None
    assert complaint.kind is FindingKind.WRONG_DIGEST
    assert complaint.expected.startswith(f"{TEXT} (image registry/one:1) or {TEXT} (image two) or sha256:e3b0")


@pytest.mark.parametrize(
    ("tree", "config", "left", "expected", "got"),
    [
        ("a", "c", "ac", "", ""),
        ("b", "c", "bc", "", ""),
        ("b", "d", "bcd", "", ""),
        # Without a digest, which is a finding of its own, the claim alone tells.
        (None, "c", "abc", "", ""),
        ("e", "d", "cd", "", ""),
        ("a", None, "a", "", ""),
        ("e", None, "cd", "config c (image c) or config d (image c) or config d (image d)", "no config claimed"),
    ],
)
def test_a_launch_narrows_the_images(tree: str | None, config: str | None, left: str, expected: str, got: str) -> None:
    """Images a and b have a tree, c and d must be claimed; a launch can only be of those that it agrees with."""
    trees: dict[str, Any] = {"a": {"digest": "a" * 64}, "b": {"digest": "b" * 64}}
    policy = parse(images=trees | {"c": {"config": ["c" * 64, "d" * 64]}, "d": {"config": ["d" * 64]}})
    given = None if tree is None else bytes.fromhex(tree * 64)
    claim = bytes(32) if config is None else bytes.fromhex(config * 64)
    images, complaint = policy.judge_launch(("a", "b", "c", "d"), launched(given, claim))
    assert "".join(images) == left
    assert (complaint is None) == (not expected)
    if complaint is not None:
        assert (complaint.kind, complaint.got) == (FindingKind.WRONG_DIGEST, got)
        assert complaint.expected == re.sub(r"config (.)", lambda match: f"config {match[1] * 64}", expected)


def test_a_launch_of_another_tree() -> None:
    policy = parse(images={"a": {"digest": "a" * 64, "config": ["c" * 64]}, "b": {"digest": "b" * 64}})
    images, complaint = policy.judge_launch(("a", "b"), launched(config=b"\xcc" * 32))
    assert images == ("a", "b")
    assert complaint is not None
    assert complaint.expected == f"tree {'a' * 64} (image a) or tree {'b' * 64} (image b)"
    assert complaint.got == f"tree {'ee' * 32}"
    assert policy.judge_launch((), launched()) == ((), None)


def test_only_a_policy_whose_every_image_demands_a_claim_demands_a_launch() -> None:
    policy = parse(images={"a": {"config": ["a" * 64]}, "b": {"config": ["b" * 64]}, "c": {}})
    assert policy.demands(("a",)) == f"config {'a' * 64} (image a)"
    assert policy.demands(("a", "b")).endswith(f"config {'b' * 64} (image b)")
    assert (policy.demands(("a", "c")), policy.demands(())) == ("", "")


def test_the_whole_command_line_must_be_one_that_is_listed() -> None:
    policy = parse(images={"a": {"arguments": [["/bin/sh", "-c", ""], ["/bin/%FF"]]}, "b": {"arguments": [["/bin/b"]]}})
    for args, left in (
        ((b"/bin/sh", b"-c", b""), ("a",)),
        ((b"/bin/\xff",), ("a",)),
        ((b"/bin/b",), ("b",)),
    ):
        assert policy.judge_launch(("a", "b"), launched(args=args)) == (left, None)
    for bad in (
        launched(args=(b"/bin/sh", b"-c")),
        launched(args=(b"/bin/b", b"")),
        launched(args=(b"/bin/b",), arguments=b"/bin/b\0", flags=1),
    ):
        images, complaint = policy.judge_launch(("a", "b"), bad)
        assert images == ("a", "b")
        assert complaint is not None
        assert complaint.kind is FindingKind.WRONG_LAUNCH
        assert "arguments '/bin/b' (image b)" in complaint.expected.replace('"', "'").replace("''", "'")
    assert policy.demands(("a", "b")).count("arguments") == 3


USUAL = b.TABLE + (
    b"/dev/pts devpts devpts / rw,nosuid,noexec rw\n"
    b"/dev/shm tmpfs shm / rw,nosuid,nodev,noexec rw\n"
    b"/dev/mqueue mqueue mqueue / rw rw\n"
    b"/dev/console devpts devpts /0 rw rw\n"
    b"/dev/null devtmpfs udev /null rw rw\n"
    b"/sys sysfs sysfs / ro rw\n"
    b"/etc/hosts ext4 /dev/vda /var/lib/containers/hosts rw rw\n"
    b"/run/.containerenv tmpfs tmpfs /containers/x/.containerenv rw rw\n"
    b"/proc/kcore tmpfs tmpfs /null rw rw\n"
    b"/proc/sys proc proc /sys ro rw\n"
    b"/proc/acpi tmpfs tmpfs / ro ro\n"
    b"/sys/firmware tmpfs tmpfs / ro ro\n"
)


@pytest.mark.parametrize(
    "line",
    [
        b"/usr/bin tmpfs tmpfs / ro rw",
        b"/proc tmpfs tmpfs / ro rw",
        b"/proc/x ext4 /dev/vda /evil ro rw",
        b"/proc/x tmpfs tmpfs / rw rw",
        b"/proc/null ext4 /dev/vda /null rw rw",
        b"/sys/x proc proc / ro rw",
        b"/dev/shm tmpfs shm / rw,nosuid,nodev rw",
        b"/dev/null ext4 /dev/vda /null rw rw",
        b"/dev/null devtmpfs udev /kmem rw rw",
        b"/dev/kmsg devtmpfs udev /kmsg rw rw",
        b"/etc/passwd ext4 /dev/vda /x rw rw",
        b"/dev ext4 /dev/vda / rw rw",
    ],
)
def test_only_what_every_runtime_mounts_is_usual(line: bytes) -> None:
    policy = parse(images={"a": {"mounts": ["usual"]}})
    assert policy.judge_launch(("a",), launched(table=USUAL)) == (("a",), None)
    images, complaint = policy.judge_launch(("a",), launched(table=USUAL + line + b"\n"))
    assert images == ("a",)
    assert complaint is not None
    assert complaint.kind is FindingKind.WRONG_LAUNCH
    assert complaint.got.startswith(ascii(line.split(b" ")[0])[1:])
    listed = parse_payload(b"ctr-mounts", b.ctr_mounts(USUAL + line + b"\n"))
    assert isinstance(listed, MountsEntry)
    assert policy.judge_mounts(("a",), listed) == (("a",), complaint)


@pytest.mark.parametrize("over", [b"/ ext4 /dev/vdb /evil rw rw\n", b"/ overlay overlay / rw,relatime rw\n"])
def test_nothing_may_be_mounted_over_the_usual_root(over: bytes) -> None:
    policy = parse(images={"a": {"mounts": ["usual"]}})
    complaint = policy.judge_launch(("a",), launched(table=USUAL + over))[1]
    assert complaint is not None
    assert complaint.got.startswith("'/'")
    allowed = parse(images={"a": {"mounts": ["usual", {"target": "/", "types": ["overlay", "ext4"]}]}})
    assert allowed.judge_launch(("a",), launched(table=USUAL + over)) == (("a",), None)


def test_later_mounts_are_usual_only_below_the_root_of_the_launch() -> None:
    policy = parse(images={"a": {"mounts": ["usual"]}})
    same, other = (parse_payload(b"ctr-mounts", b.ctr_mounts(USUAL, flags=flags)) for flags in (0, OTHER_ROOT))
    assert isinstance(same, MountsEntry)
    assert isinstance(other, MountsEntry)
    assert other.whole
    assert policy.judge_mounts(("a",), same) == (("a",), None)
    complaint = policy.judge_mounts(("a",), other)[1]
    assert complaint is not None
    assert complaint.kind is FindingKind.WRONG_LAUNCH


DATA = b"/data/a ext4 /dev/vdb /sub ro,nosuid,noexec rw\n"


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        ({"target": "/data/a"}, True),
        ({"target": "/data/*"}, True),
        ({"target": "/*"}, True),
        ({"target": "/data"}, False),
        ({"target": "/dat/*"}, False),
        ({"target": "/data/a/*"}, False),
        ({"target": "/data/a", "types": ["xfs", "ext4"], "sources": ["/dev/vdb"], "roots": ["/sub"]}, True),
        ({"target": "/data/a", "types": ["xfs"]}, False),
        ({"target": "/data/a", "sources": ["/dev/vda", ""]}, False),
        ({"target": "/data/a", "roots": ["/"]}, False),
        ({"target": "/data/a", "options": ["ro", "noexec"]}, True),
        ({"target": "/data/a", "options": ["ro", "nodev"]}, False),
    ],
)
def test_mounts_by_rule(rule: dict[str, Any], good: bool) -> None:
    policy = parse(images={"a": {"mounts": [rule, "usual"]}, "b": {"mounts": []}})
    images, complaint = policy.judge_launch(("a", "b"), launched(table=b.TABLE + DATA))
    assert (images, complaint is None) == (("a",) if good else ("a", "b"), good)
    assert policy.demands(("a",)) == "mounts that the policy allows (image a)"


def test_a_list_of_mounts_that_is_not_whole_fits_no_rule() -> None:
    policy = parse(images={"a": {"mounts": ["usual", {"target": "/*"}]}})
    not_whole = [launched(table=b.TABLE, flags=2), launched(table=b"", flags=64), launched(table=None)]
    for launch in not_whole:
        complaint = policy.judge_launch(("a",), launch)[1]
        assert complaint is not None
        assert complaint.got == "an incomplete list"
    for payload in (b.ctr_mounts(b.TABLE, flags=1), b.ctr_mounts(b"", flags=2)):
        listed = parse_payload(b"ctr-mounts", payload)
        assert isinstance(listed, MountsEntry)
        assert policy.judge_mounts(("a",), listed)[1] is not None


def test_programs_that_a_container_may_load() -> None:
    good = hashlib.sha256(b"program").hexdigest()
    policy = parse(images={"a": {"programs": [f"sha256:{good}", "bpf:2"]}, "b": {}}, on={"unknown": "note"})
    for payload, fits in (
        (b.ctr_program(), True),
        (b.ctr_program(what=3), True),
        (b.ctr_program(what=2), True),
        (b.ctr_program(what=2, command=1), False),
        (b.ctr_program(b"other"), False),
    ):
        loaded = parse_payload(b"ctr-program", payload)
        assert isinstance(loaded, ProgramEntry)
        images, complaint = policy.judge_program(("a", "b"), loaded)
        assert (images, complaint is None) == (("a",) if fits else ("a", "b"), fits)
        assert complaint is None or not complaint.tolerated


def test_nested_containers_have_keys_of_their_own() -> None:
    images: dict[str, Any] = {"a": {}, "b": {}}
    policy = parse(images=images, containers={b.CONTAINER: ["a"], f"{b.CONTAINER}/*": ["b"]})
    assert policy.nested_images(b.CONTAINER) == ("b",)
    assert policy.nested_images("*") is None
    assert parse(images=images, containers={"*/*": ["a"]}).nested_images(b.CONTAINER) == ("a",)


def test_an_id_is_believed_where_its_engine_puts_it() -> None:
    policy = parse(images={"a": {}}, containers={b.CONTAINER: ["a"]}, cgroups=["/own.slice"])
    for path, good in (
        ("/machine.slice/libpod-{}.scope/container", True),
        ("/own.slice/libpod-{}.scope", True),
        ("/own.slice/below/libpod-{}.scope", True),
        ("/own.slices/libpod-{}.scope", False),
        ("/other.slice/libpod-{}.scope", False),
        ("/other/{}", True),
    ):
        assert policy.key_of(container(b.CONTAINER, path)) == (b.CONTAINER if good else "*"), path
    # Nobody saw who started it: only where no container can make cgroups.
    ran = container(b.CONTAINER, "/other/{}")
    assert policy.key_of(ran, before=True) == "*"


@pytest.mark.parametrize(
    ("cgroup", "flags", "why"),
    [
        ("/other.slice/libpod-{}.scope", 0, "no engine uses the cgroup path '/other.slice'"),
        ("/other/{}", BEFORE, "it started before the measurer"),
        ("/other/{}", 0, ""),
    ],
)
def test_a_note_says_why_an_id_is_ignored(cgroup: str, flags: int, why: str) -> None:
    policy = parse(images={"a": {}}, containers={b.CONTAINER: ["a"]})
    roster = Roster(policy=policy)
    payload = b.ctr_start(cgroup.format(b.CONTAINER).encode(), flags=flags)
    started = parse_payload(b"ctr-start", payload)
    assert isinstance(started, StartEntry)
    assert not list(roster.count(11, started))
    notes = list(roster.doubted({11}))
    assert len(notes) == bool(why)
    assert all(f"id {b.CONTAINER} ignored: {why}" in note for note in notes)


def test_many_good_digests_are_not_all_said() -> None:
    policy = parse(host={"files": {"/a": [f"sha256:{n:064x}" for n in range(5)]}})
    complaint = policy.judge_host(Fields("sha256", ABC, b"/a"))
    assert complaint is not None
    assert complaint.expected.endswith("2 or 2 more")


def test_a_containers_file_is_never_excused_by_what_the_host_may_run() -> None:
    host = {"files": {"/bin/sh": [TEXT]}, "exclude": ["/var/.*"]}
    policy = parse(host=host, images={"i": {"files": {}}}, containers={"*": ["i"]})
    for path in (b"/bin/sh", b"/var/x"):
        for images in (("i",), ()):
            left, complaint = policy.judge_file(images, path, ABC)
            assert left == images
            assert complaint is not None
            assert complaint.kind is FindingKind.UNKNOWN_FILE
            assert ("names an image" in complaint.expected) is (not images)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "expected JSON"),
        ("\ufeff{}", "expected JSON"),
        (b"\xff", "expected JSON"),
        ("[]", "expected an object, got a list of 0"),
        ("7", "expected an object, got 7"),
        ("{}", "'schema': is missing"),
        ('{"schema": 2}', "'schema'"),
        ('{"schema": true}', "'schema': expected 1, got True"),
        ('{"schema": 1.0}', "'schema': expected 1, got 1.0"),
        ('{"schema": NaN}', "NaN, which is not JSON"),
        ('{"schema": -Infinity}', "which is not JSON"),
        ('{"schema": 1' + "0" * 30 + "}", "a number of 31 digits"),
        ('{"schema": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"schema": 1e999}', "got inf"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ('{"schema": 1, "schema": 1}', "the key 'schema' twice"),
        ('{"schema": 1, "host": {"files": {"/a": [], "/b": [], "/a": []}}}', "the key '/a' twice"),
        ('{"schema": 1, "hosts": {}}', "'hosts': there is no such key"),
        ('{"schema": 1, "' + "x" * 9000 + '": {}}', "there is no such key"),
        ('{"schema": 1, "host": []}', "'host'"),
        ('{"schema": 1, "host": {"files": []}}', "'host.files': expected an object"),
        ('{"schema": 1, "host": {"files": {"/a": []}}}', "'host.files./a': expected digests"),
        ('{"schema": 1, "host": {"files": {"/a": "sha256"}}}', "'host.files./a': expected digests"),
        ('{"schema": 1, "host": {"files": {"/a": [7]}}}', "got 7"),
        ('{"schema": 1, "host": {"files": {"/a": [{}]}}}', "got an object of 0"),
        ('{"schema": 1, "host": {"files": {"a/b": ["x"]}}}', "'a/b'"),
        ('{"schema": 1, "host": {"files": {"": ["x"]}}}', "not empty"),
        ('{"schema": 1, "host": {"files": {"/\\u0000": ["x"]}}}', "one spelling"),
        ('{"schema": 1, "host": {"files": {"/\\ud800": ["x"]}}}', "one spelling"),
        ('{"schema": 1, "host": {"files": {"boot_aggregate": ["x"]}}}', "'boot_aggregate'"),
        ('{"schema": 1, "host": {"files": {"boot_aggregate_late": ["x"]}}}', "'boot_aggregate_late'"),
        ('{"schema": 1, "host": {"files": {"4026531840": ["x"]}}}', "'4026531840'"),
        ('{"schema": 1, "host": {"boot_aggregate": ["md5:00"]}}', "'host.boot_aggregate.0'"),
        ('{"schema": 1, "host": {"buffers": {"": []}}}', "'host.buffers"),
        (
            '{"schema": 1, "host": {"exclude": ["/.*"]}}',
            "'host.exclude.0': '/.*' is rejected: a branch limits the location only to",
        ),
        ('{"schema": 1, "host": {"exclude": ["/var/.*", "' + "x" * 900 + '"]}}', "'host.exclude.1'"),
        ('{"schema": 1, "host": {"exclude": "/var/.*"}}', "'host.exclude'"),
        ('{"schema": 1, "images": {"a b": {}}}', "'images.a b"),
        ('{"schema": 1, "images": {"i": {"digest": "00"}}}', "'images.i.digest'"),
        ('{"schema": 1, "images": {"i": {"config": []}}}', "'images.i.config'"),
        ('{"schema": 1, "images": {"i": {"config": "' + "ab" * 32 + '"}}}', "'images.i.config'"),
        ('{"schema": 1, "images": {"i": {"config": ["' + "AB" * 32 + '"]}}}', "'images.i.config.0'"),
        ('{"schema": 1, "images": {"i": {"config": ["' + "ab" * 33 + '"]}}}', "'images.i.config.0'"),
        ('{"schema": 1, "images": {"i": {"config": ["' + "00" * 32 + '"]}}}', "'images.i.config.0'"),
        ('{"schema": 1, "images": {"i": {"files": 1}}}', "'images.i.files': expected an object"),
        ('{"schema": 1, "images": {"i": {"files": {"a": ["x"]}}}}', "'images.i.files': expected whole paths"),
        ('{"schema": 1, "images": {"i": {"files": {"/a": {}}}}}', "'images.i.files./a': expected digests"),
        (
            '{"schema": 1, "images": {"i": {"files": {"/a": ["sha1:' + "0" * 40 + '"]}}}}',
            "expected digests, sha256:HEX",
        ),
        ('{"schema": 1, "images": {"i": {"files": {"/a": [null]}}}}', "got None"),
        ('{"schema": 1, "containers": {"*": ["nope"]}}', "('no image at all'), got 'nope'"),
        ('{"schema": 1, "images": {"i": {}}, "containers": {"*": ["i", "nope"]}}', "got 'nope'"),
        ('{"schema": 1, "images": {"i": {}}, "containers": {"*": []}}', "'containers.*'"),
        ('{"schema": 1, "images": {"i": {}}, "containers": {"ABC": ["i"]}}', "'containers.ABC"),
        ('{"schema": 1, "on": {"unknown": "ignore"}}', "'on.unknown'"),
        ('{"schema": 1, "on": {"wrong": "note"}}', "'on.wrong': there is no such key"),
    ],
)
def test_a_bad_policy_is_refused_by_name(data: str | bytes, said: str) -> None:
    assert said in refused(data)


@pytest.mark.parametrize(
    "digest",
    [
        "md5:" + "0" * 32,
        "sha224:" + "0" * 56,
        "sm4:" + "0" * 64,
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 66,
        "sha256:" + "A" * 64,
        "sha256:" + " 0" * 32,
        "sha256:" + "00 " * 21 + "0",
        "sha256:" + "g" * 64,
        "0" * 64,
        "",
        "verity:sha1:" + "0" * 40,
        "verity:verity:sha256:" + "0" * 64,
        "ima:sha256:" + "0" * 64,
        "sha256:" + "0" * 9000,
    ],
)
def test_a_bad_digest_is_refused(digest: str) -> None:
    for keys in ({"host": {"files": {"/a": [TEXT, digest]}}}, {"host": {"boot_aggregate": [digest]}}):
        assert "sha384" in refused(json.dumps({"schema": 1} | keys))
    assert "'host.buffers.e.0'" in refused(json.dumps({"schema": 1, "host": {"buffers": {"e": [digest]}}}))
    assert "sha256:HEX" in refused(json.dumps({"schema": 1, "images": {"i": {"files": {"/a": [digest]}}}}))


@pytest.mark.parametrize("path", ["/a%", "/a%2", "/a%zz", "/a%61", "/a%e9", "/%C3%A9", "/a% 1", "/a%00", "/a%2525%2"])
def test_a_path_has_one_spelling(path: str) -> None:
    assert "one spelling" in refused(json.dumps({"schema": 1, "host": {"files": {path: [TEXT]}}}))
    assert "one spelling" in refused(json.dumps({"schema": 1, "images": {"i": {"files": {path: [TEXT]}}}}))
    assert "one spelling" in refused(json.dumps({"schema": 1, "host": {"buffers": {path: [TEXT]}}}))


@given(st.binary(min_size=1, max_size=30).filter(lambda path: b"\0" not in path))
def test_any_path_can_be_written_and_read(path: bytes) -> None:
    text = escape_path(path)
    assert unescape_path(text) == path
    assert json.loads(json.dumps(text)) == text
    text.encode()


def test_a_path_that_is_text_stays_as_it_is() -> None:
    assert escape_path("/usr/bin/café".encode()) == "/usr/bin/café"
    assert escape_path(b"/100%\xff\n") == "/100%25%FF\n"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([TEXT, "/a", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "schema",
                    "host",
                    "files",
                    "images",
                    "containers",
                    "on",
                    "exclude",
                    "digest",
                    "buffers",
                    "*",
                    "/a",
                    "i",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300, deadline=None)
def test_nothing_but_a_spec_error_is_raised(data: bytes) -> None:
    with suppress(SpecError):
        parse_policy(data, "p.json")


@given(VALUES, st.sampled_from(["host", "images", "containers", "on"]))
@settings(max_examples=300, deadline=None)
def test_nothing_but_a_spec_error_is_raised_below_a_key(value: Any, key: str) -> None:
    with suppress(SpecError):
        parse_policy(json.dumps({"schema": 1, key: value}).encode(), "p.json")


def test_a_link_to_a_policy_will_do(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(EXAMPLE)
    assert load_policy(link) == load_policy(EXAMPLE)


def test_a_file_that_cannot_be_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "none", Path("/dev/null"), Path("a\0b")):
        with pytest.raises(SpecError):
            load_policy(path)
    monkeypatch.setattr(policy_file, "SIZE_MAX", 10)
    with pytest.raises(SpecError, match="at most 0 MiB"):
        load_policy(EXAMPLE)


def test_the_collector_is_as_it_was_after_a_bad_file() -> None:
    assert gc.isenabled()
    refused("[")
    assert gc.isenabled()
    gc.disable()
    try:
        parse()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_published_schema_is_that_of_the_model() -> None:
    made = json.dumps(policy_keys.json_schema(), indent=1) + "\n"
    assert made == SCHEMA.read_text(), "testbed policy schema > docs/policy.schema.json"


def test_the_published_schema_knows_good_from_bad() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = json.loads(EXAMPLE.read_text())
    validator.validate(good)
    for golden in EXAMPLE.parent.glob("*.json"):
        validator.validate(json.loads(golden.read_text()))
        load_policy(golden)
    for bad in (
        {},
        {"schema": 2},
        {"schema": 1, "x": 1},
        {"schema": 1, "host": {"files": {"/a": ["md5:0"]}}},
        {"schema": 1, "host": {"files": {"/a": []}}},
        {"schema": 1, "images": {"i": {"files": {"/a": ["sha1:" + "0" * 40]}}}},
        {"schema": 1, "containers": {"x": ["i"]}},
        {"schema": 1, "on": {"unknown": "x"}},
    ):
        assert not validator.is_valid(bad), bad
        refused(json.dumps(bad))


def test_lengths_are_the_kernels() -> None:
    (one,) = parse(host={"files": {"/a": [TEXT]}}).accepted
    assert one == struct.pack("<I", 40) + b"sha256:\0" + ABC + struct.pack("<I", 3) + b"/a\0"
