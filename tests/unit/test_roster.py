"""Who a container is and which images judge it, entry by entry; attacks on it are rows of docs/attacks.md."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import evidence as b
import pytest

from testbed.attest.finding import Finding
from testbed.attest.judge import Judge
from testbed.attest.log.ima import read_entries
from testbed.attest.policy.reference import Policy, parse_policy
from testbed.attest.roster import JudgedContainer, Roster
from testbed.attest.verdict import Verdict
from testbed.attest.whole import log_findings
from testbed.commands.verify import _lines

OTHER = "cd" * 32


def policy(**keys: Any) -> Policy:
    images: dict[str, Any] = {"a": {}, "b": {}, "any": {}}
    return parse_policy(json.dumps({"schema": 1, "images": images, **keys}).encode(), "p.json")


def judged(wanted: Policy | None, *entries: tuple[str, bytes]) -> Judge:
    judge = Judge(policy=wanted)
    for entry in read_entries(b"".join(b.ima_buf(name, payload) for name, payload in entries)):
        judge.step(entry)
    return judge


def started(path: str, **wish: Any) -> tuple[str, bytes]:
    return ("ctr-start", b.ctr_start(path.encode(), version=2, **wish))


def found(judge: Judge, reached: set[int]) -> list[Finding]:
    return [*judge.findings(reached), *log_findings(judge, reached)]


def told(findings: list[Finding]) -> list[tuple[str, str | None]]:
    return [(finding.kind.value, finding.container) for finding in findings]


HOST = f"/machine.slice/libpod-{b.CONTAINER}.scope/container"
ELSEWHERE = f"/web.slice/libpod-{b.CONTAINER}.scope"


def test_a_nested_container_has_no_id_and_the_images_of_the_outermost() -> None:
    wanted = policy(containers={b.CONTAINER: ["a"], OTHER: ["b"], "*": ["any"]})
    victim = f"/machine.slice/libpod-{OTHER}.scope"
    judge = judged(wanted, started(HOST), started(victim, seq=2, parent=1), started(victim, seq=3, parent=2))
    known = judge.roster.containers({11})
    assert [(one.runtime_id, one.image, one.parent) for one in known.values()] == [
        (b.CONTAINER, "a", 0),
        (None, "a", 1),
        (None, "a", 2),
    ]
    assert found(judge, {11}) == []


def test_what_a_nested_container_shows_narrows_the_outermost() -> None:
    wanted = parse_policy(
        json.dumps(
            {
                "schema": 1,
                "images": {"a": {"arguments": [["sh"]]}, "b": {"arguments": [["ls"]]}},
                "containers": {"*": ["a", "b"]},
            }
        ).encode(),
        "p.json",
    )
    tree = b"t" * 32
    lines = [started(HOST), started("/x", seq=2, parent=1), ("ctr-image", b.ctr_image(tree, version=2))]
    launches = [
        ("ctr-launch", b.ctr_launch(tree, (word,), seq=seq, table=b.TABLE)) for seq, word in ((2, b"ls"), (1, b"sh"))
    ]
    judge = judged(wanted, *lines, *launches)
    assert told(found(judge, {11})) == [("wrong-launch", "1")]
    assert [one.image for one in judge.roster.containers({11}).values()] == ["b", "b"]


@pytest.mark.parametrize(
    ("cgroups", "image", "notes"),
    [([], "any", 1), (["/web.slice"], "a", 0)],
)
def test_a_note_names_the_id_that_is_not_believed(cgroups: list[str], image: str, notes: int) -> None:
    wanted = policy(containers={b.CONTAINER: ["a"], "*": ["any"]}, cgroups=cgroups)
    judge = judged(wanted, started(ELSEWHERE), started("/none", seq=2))
    known = judge.roster.containers({11})
    assert (known["1"].image, known["1"].runtime_id) == (image, b.CONTAINER)
    said = list(judge.roster.doubted({11}))
    assert len(said) == notes
    assert all("/web.slice" in one and b.CONTAINER in one for one in said)
    assert list(judged(None, started(ELSEWHERE)).roster.doubted({11})) == []


def test_two_of_one_id_are_told_with_and_without_a_policy() -> None:
    again = (started(HOST), started(HOST, seq=2), started(HOST, seq=3, parent=2))
    both = [("ambiguous-identity", "1"), ("ambiguous-identity", "2")]
    assert told(found(judged(None, *again), {11})) == both
    assert told(found(judged(policy(), *again), {11})) == both
    # What is not attested is no evidence.
    assert told(found(judged(None, *again), set())) == []
    noted = judged(policy(on={"restart": "note"}), *again)
    assert found(noted, {11}) == []
    assert sum(noted.tolerated.values()) == 2


@pytest.mark.parametrize(
    ("entry", "alive"),
    [
        (("ctr-join", b.ctr_join(version=2)), True),
        (("ctr-mounts", b.ctr_mounts(b.TABLE)), True),
        (("ctr-loss", b.ctr_loss()), False),
    ],
)
def test_a_restart_is_no_restart_if_the_first_one_goes_on(entry: tuple[str, bytes], alive: bool) -> None:
    wanted = policy(on={"restart": "note"})
    kinds = told(found(judged(wanted, started(HOST), started(HOST, seq=2), entry), {11}))
    assert (("ambiguous-identity", "1") in kinds) is alive


def test_a_saved_container_is_taken_over() -> None:
    wanted = policy(containers={b.CONTAINER: ["a", "b"]})
    (one,) = judged(wanted, started(HOST)).roster.attested({11})
    roster = Roster(policy=wanted)
    roster.adopt(JudgedContainer(pcr=None, container=one.container, counts_as=1, images=("b",)))
    assert roster.images(1) == ("b",)
    assert roster.containers(())["1"].image == "b"


def test_programs_count_against_all_and_without_a_policy() -> None:
    for wanted in (None, policy(), policy(containers={"*": ["a"]}, on={"unknown": "note"})):
        judge = judged(wanted, started(HOST), ("ctr-program", b.ctr_program()))
        assert told(found(judge, {11})) == [("unknown-file", None)]


def test_the_measurer_is_compared_only_if_the_policy_names_it() -> None:
    parts = [("ctr-measurer", b.ctr_measurer(number)) for number in (1, 2, 3)]
    sha = f"sha256:{hashlib.sha256(b'part').hexdigest()}"
    wanted = policy(measurer={key: [sha] for key in ("module", "object", "loader")})
    assert found(judged(wanted, *parts), {11}) == []
    assert found(judged(policy(), *parts), {11}) == []
    assert told(found(judged(wanted, *parts), set())) == [("missing", None)] * 3
    evil = ("ctr-measurer", b.ctr_measurer(3, b"evil"))
    assert told(found(judged(wanted, *parts, evil), {11})) == [("wrong-digest", None)]
    assert told(found(judged(wanted, *parts[:2], evil), {11})) == [("wrong-digest", None)]


def test_the_output_names_the_outer_container() -> None:
    nested = judged(None, started(HOST), started("/x", seq=2, parent=1)).roster.containers({11})["2"]
    said = "\n".join(_lines(Verdict(findings=(), containers={"2": nested}), judged=False))
    assert "container 2: trusted, 1 entry, inside container 1" in said


def test_of_many_containers_with_one_id_a_few_are_named() -> None:
    judge = judged(None, *(started(HOST, seq=seq) for seq in range(1, 301)))
    findings = found(judge, {11})
    assert len(findings) == 300
    assert {finding.kind.value for finding in findings} == {"ambiguous-identity"}
    assert findings[0].got.startswith("container 2, container 3, container 4 and 296 more with the same id")
    assert max(len(finding.got) for finding in findings) < 200
