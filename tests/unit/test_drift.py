"""Launches whose image's digest stands for its files: what is claimed, how code beside the image is judged."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

import evidence as b
import pytest
from test_truth import archive, layer

from testbed import measurers, plugins
from testbed.analysis.tables import events
from testbed.attest.entries.launch import DRIFT, LaunchEntry
from testbed.attest.entries.parse import LAYER, parse_payload
from testbed.attest.finding import Finding, FindingKind
from testbed.attest.image.claims import claims, parse_claims
from testbed.attest.image.ground_truth import executed
from testbed.attest.judge import Judge
from testbed.attest.log.ima import read_entries
from testbed.attest.policy.log import from_entries
from testbed.attest.policy.reference import Policy, parse_policy
from testbed.attest.saved.containers import SavedContainer, flatten
from testbed.attest.truth import compare
from testbed.measurers import DRIFTING, LAUNCHING, Executed, Launched, Ran, What
from testbed.record import Started
from testbed.rundir import Campaign

MEASURER = plugins.measurer("container-drift")
TREE, OTHER = b"t" * 32, b"o" * 32
SCRIPT = b"#!/usr/bin/busybox\n"
Line = tuple[str, bytes]


def sha(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def policy(**image: Any) -> Policy:
    """A policy with one image for all containers, and with ``on`` where it is among the keys."""
    on = {"on": image.pop("on")} if "on" in image else {}
    whole = {"schema": 1, "images": {"a": image}, "containers": {"*": ["a"]}} | on
    return parse_policy(json.dumps(whole).encode(), "p.json")


def launch(tree: bytes = TREE, *, seq: int = 1, flags: int = DRIFT, **more: Any) -> Line:
    return "ctr-launch", b.ctr_launch(tree, seq=seq, flags=flags, table=b.TABLE, version=3, **more)


def file(path: bytes, content: bytes, seq: int = 1) -> Line:
    return "ctr-file", b.ctr_file(path, content, seq=seq, version=3)


def start(seq: int = 1, parent: int = 0) -> Line:
    path = b.libpod(f"{seq:064x}") if not parent else b"/x"
    return "ctr-start", b.ctr_start(path, seq=seq, parent=parent, version=3)


IMAGE: Line = ("ctr-image", b.ctr_image(TREE, version=3))
BEGUN = (start(), IMAGE, launch())


def judged(given: Policy | None, *lines: Line) -> Judge:
    judge = Judge(policy=given)
    for entry in read_entries(b"".join(b.ima_buf(name, payload) for name, payload in lines)):
        judge.step(entry)
    return judge


def found(given: Policy | None, *lines: Line) -> list[tuple[str, str | None]]:
    return [(one.kind.value, one.container) for one in findings(given, *lines)]


def findings(given: Policy | None, *lines: Line) -> list[Finding]:
    return judged(given, *lines).findings({11})


def test_the_measurer_is_a_rung_that_launches_and_beats() -> None:
    assert MEASURER.mode in measurers.BEATING & LAUNCHING & DRIFTING
    assert DRIFTING < LAUNCHING
    assert plugins.measurer("container-image").mode not in DRIFTING
    assert [(step.name, step.first) for step in MEASURER.steps] == [("drift", False), ("drift-image", True)]


def test_it_claims_the_start_and_what_is_not_of_the_image() -> None:
    own = Executed(container="c", path=PurePosixPath("/bin/a"), digest="11" * 32, size=1, of_image=True)
    built = dataclasses.replace(own, path=PurePosixPath("/tmp/b"), of_image=False)
    ran: list[Ran] = [own, built, Launched(container="c", image="aa", argv=("/bin/a",))]
    claimed = MEASURER.claim(ran)
    assert {(one.what, one.path) for one in claimed} == {
        (What.IMAGE, ""),
        (What.LAUNCH, "/bin/a"),
        (What.FILE, str(built.path)),
    }
    assert claimed < plugins.measurer("container-image").claim(ran)


def test_the_truth_of_an_archive_is_the_images_own(tmp_path: Path) -> None:
    image = archive(tmp_path / "image", [layer({"usr/bin/busybox": SCRIPT})])
    assert {one.of_image for one in executed(image, "c", ["/usr/bin/busybox"])} == {True}
    said = claims(MEASURER, plugins.workload("exec-static"), image)
    assert {one.what for one in said.claimed} == {What.IMAGE, What.LAUNCH}
    printed = said.as_json(MEASURER.name, "exec-static")
    assert {row.get("of_image") for row in printed["truth"]} == {True, None}
    again = parse_claims(json.dumps(printed).encode(), "c.json")
    assert again.claimed == said.claimed
    files = [[one for one in told.truth if isinstance(one, Executed)] for told in (again, said)]
    assert files[0] == files[1] != []
    for row in printed["truth"]:
        row.pop("of_image", None)
    older = parse_claims(json.dumps(printed).encode(), "c.json")
    assert older.truth == again.truth, "what was printed before there was the key is of images"


def test_a_log_with_files_of_the_image_is_not_as_claimed() -> None:
    """So a container that was measured as under ``container-file`` is seen: its files are ghosts."""
    own = Executed(container=f"{1:064x}", path=PurePosixPath("/bin/a"), digest=sha(b"a")[7:], size=1, of_image=True)
    ran: list[Ran] = [own, Launched(container=own.container, image=TREE.hex())]
    good = [start(), IMAGE, launch()]
    for lines, kinds in ((good, []), ([*good, file(b"/bin/a", b"a")], ["ghost"]), (good[:2], ["missing"])):
        entries = list(read_entries(b"".join(b.ima_buf(*line) for line in lines)))
        known = judged(None, *lines).roster.containers({11})
        assert [one.kind.value for one in compare(entries, MEASURER.claim(ran), known, [own])] == kinds


def test_the_events_of_a_start_have_no_files_of_the_image(tmp_path: Path) -> None:
    campaign = Campaign(path=tmp_path)
    (tmp_path / "images").mkdir()
    archive(campaign.image_path("exec"), [layer({"usr/bin/busybox": SCRIPT})])
    truth = events.truth_of(campaign)
    started = Started(id="c", image="exec", workload="exec-static", exit_status=0)
    assert truth.code(started) == events.Sum(files=1, bytes=len(SCRIPT))
    assert truth.beside(started) == events.Sum(files=0, bytes=0)


def test_without_a_policy_drift_is_authentic_and_the_container_says_so() -> None:
    judge = judged(None, *BEGUN, file(b"/tmp/b", b"b"), start(2), launch(seq=2, flags=0))
    assert judge.findings({11}) == []
    assert {key: one.drift for key, one in judge.roster.containers({11}).items()} == {"1": True, "2": False}


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        (b"/opt/plugin", b"plugin", None),
        (b"/opt/plugin", b"other", FindingKind.WRONG_DIGEST),
        (b"/opt/other", b"plugin", FindingKind.UNKNOWN_FILE),
        # Over a file of the image: other content is wrong, and its own content came by another way.
        (b"/bin/a", b"evil", FindingKind.WRONG_DIGEST),
        (b"/bin/a", b"a", FindingKind.UNKNOWN_FILE),
        (b"/bin/b", b"a", FindingKind.UNKNOWN_FILE),
    ],
)
def test_a_file_beside_the_image_is_judged_by_what_is_listed_beside_it(
    path: bytes, content: bytes, expected: FindingKind | None
) -> None:
    listed = {"digest": TREE.hex(), "files": {"/bin/a": [sha(b"a")]}, "drift": {"/opt/plugin": [sha(b"plugin")]}}
    assert found(policy(**listed), *BEGUN, file(path, content)) == ([(expected.value, "1")] if expected else [])
    noted = found(policy(**listed, on={"unknown": "note"}), *BEGUN, file(path, content))
    assert [kind for kind, _ in noted] == ([expected.value] if expected is FindingKind.WRONG_DIGEST else [])


def test_the_words_about_a_file_beside_the_image() -> None:
    given = policy(digest=TREE.hex(), files={"/bin/a": [sha(b"a")]})
    (unknown,) = findings(given, *BEGUN, file(b"/bin/a", b"a"))
    assert unknown.expected == "a file that the policy lists beside image a (`drift`)"
    (wrong,) = findings(given, *BEGUN, file(b"/bin/a", b"evil"))
    assert wrong.expected == f"{sha(b'a')} (image a)"


def test_without_the_flag_files_are_judged_as_ever_and_drift_accepts_nothing() -> None:
    given = policy(digest=TREE.hex(), files={"/bin/a": [sha(b"a")]}, drift={"/opt/plugin": [sha(b"plugin")]})
    begun = (start(), IMAGE, launch(flags=0))
    assert found(given, *begun, file(b"/bin/a", b"a")) == []
    assert found(given, *begun, file(b"/opt/plugin", b"plugin")) == [("unknown-file", "1")]
    # Before the launch, too: what the image's digest stands for is known only then.
    assert found(given, start(), file(b"/bin/a", b"a"), IMAGE, launch()) == []


def test_the_image_must_have_a_digest_in_the_policy() -> None:
    files = {"/bin/a": [sha(b"a")]}
    assert found(policy(digest=TREE.hex(), files=files), *BEGUN) == []
    assert found(policy(digest=OTHER.hex(), files=files), *BEGUN) == [("wrong-digest", "1")]
    (finding,) = findings(policy(files=files), *BEGUN)
    assert (finding.kind, finding.container) == (FindingKind.WRONG_DIGEST, "1")
    assert finding.expected == "an image whose digest the policy has (image a)"
    assert found(policy(files=files), start(), IMAGE, launch(flags=0)) == []


def test_a_container_without_an_image_is_unknown_although_it_has_no_file() -> None:
    none = parse_policy(b'{"schema": 1}', "p.json")
    assert found(none, *BEGUN) == [("unknown-file", "1")]
    assert found(none, start(), IMAGE, launch(flags=0)) == []
    noted = parse_policy(b'{"schema": 1, "on": {"unknown": "note"}}', "p.json")
    assert found(noted, *BEGUN) == []


def test_of_two_images_only_one_with_the_digest_can_be_the_containers() -> None:
    images = {"a": {"digest": TREE.hex(), "drift": {"/p": [sha(b"a")]}}, "b": {"drift": {"/p": [sha(b"b")]}}}
    whole = {"schema": 1, "images": images, "containers": {"*": ["a", "b"]}}
    given = parse_policy(json.dumps(whole).encode(), "p.json")
    assert found(given, *BEGUN, file(b"/p", b"a")) == []
    assert found(given, *BEGUN, file(b"/p", b"b")) == [("wrong-digest", "1")]


def test_a_container_in_a_container_is_judged_by_its_own_flag() -> None:
    inner = (*BEGUN, start(2, parent=1), launch(seq=2, flags=0))
    given = policy(digest=TREE.hex(), files={"/bin/a": [sha(b"a")]})
    assert found(given, *inner, file(b"/bin/a", b"a", seq=2)) == []
    assert found(given, *inner, file(b"/bin/a", b"a", seq=1)) == [("unknown-file", "1")]


def test_a_layer_that_changed_is_a_violation_of_each_container_on_it() -> None:
    changed = [("ctr-violation", b.ctr_violation(b"/x", seq=seq, violation=LAYER, version=3)) for seq in (1, 2)]
    lines = [*BEGUN, start(2), launch(seq=2), *changed]
    first, second = findings(None, *lines)
    assert (first.kind, first.container, second.container) == (FindingKind.VIOLATION, "1", "2")
    assert first.got.endswith("a layer of the container's root was changed after the launch")


def test_a_state_keeps_which_containers_drift() -> None:
    judge = judged(None, *BEGUN, start(2), launch(seq=2, flags=0))
    saved = [SavedContainer(container=one, counts_as=one.seq) for one in judge.roster.containers({11}).values()]
    assert flatten(saved)["drift"] == [1]
    assert "drift" not in flatten(saved[1:])


def test_a_policy_from_a_log_lists_files_beside_the_image() -> None:
    lines = [*BEGUN, file(b"/opt/plugin", b"plugin"), start(2), file(b"/bin/a", b"a", seq=2), start(3), launch(seq=3)]
    made = from_entries(read_entries(b"".join(b.ima_buf(*line) for line in lines)))
    one, two, three = (made.document["images"][f"{seq:064x}"] for seq in (1, 2, 3))
    assert one == {"digest": TREE.hex(), "drift": {"/opt/plugin": [sha(b"plugin")]}, "files": {}}
    assert two == {"files": {"/bin/a": [sha(b"a")]}}
    assert three == {"digest": TREE.hex(), "files": {}}
    given = parse_policy(json.dumps(made.document).encode(), "p.json")
    assert found(given, *lines) == []


def test_an_older_launch_cannot_have_the_flag() -> None:
    assert found(None, start(), IMAGE, ("ctr-launch", b.ctr_launch(TREE, flags=DRIFT, table=b.TABLE))) == [
        ("malformed", None)
    ]
    parsed = parse_payload(b"ctr-launch", launch()[1])
    assert isinstance(parsed, LaunchEntry)
    assert parsed.flags == DRIFT
