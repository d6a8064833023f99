"""The demo in a real machine: what its acts do, and that each verdict turns."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from booted import Saves, hold

from testbed.lab.block import Parts, Ready
from testbed.lab.demo import picture, play, scene
from testbed.lab.demo.lines import Lines
from testbed.lab.demo.live import path_of
from testbed.lab.demo.show import Performance
from testbed.lab.machines.lab import Lab

KERNEL = "debian-6.12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    performance: Performance
    said: str


@pytest.fixture(scope="module")
def demo(lab: Lab, saves: Saves, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory) -> Demo:
    directory, out = tmp_path_factory.mktemp("demo"), io.StringIO()
    made = parts[KERNEL]
    with hold(saves, made, directory / "machine") as booted:
        ready = Ready(machine=booted.machine, ak=booted.ak)
        performance = play.perform(lab, ready, made.images[0], directory / "demo", Lines(out))
    return Demo(performance=performance, said=out.getvalue())


def test_each_verdict_turns(demo: Demo) -> None:
    assert demo.performance.problems == (), demo.said
    assert demo.performance.honest.verdict.judgement == "trusted"
    assert [one.verdict.judgement for one in demo.performance.acts] == [
        "untrusted",
        "untrusted",
        "trusted",
        "untrusted",
    ]


def test_a_changed_library_is_a_violation_in_both_containers_and_a_wrong_digest_in_one(demo: Demo) -> None:
    found = demo.performance.acts[0].verdict.findings
    # Two of each container: the file was in use, and it is in a layer of the image.
    assert sorted((finding.kind.value, finding.container) for finding in found) == [
        *[("violation", "1")] * 2,
        *[("violation", "2")] * 2,
        ("wrong-digest", "1"),
    ]
    assert all(scene.LIBRARY in finding.got for finding in found)


def test_the_entries_arrive_while_the_containers_run(demo: Demo) -> None:
    arrivals = demo.performance.arrivals
    assert len({one.seconds for one in arrivals}) > 3
    assert {one.entry.container for one in arrivals} == {None, "1", "2"}
    for number, actor in enumerate(scene.ACTORS, 1):
        paths = {path_of(one.entry) for one in arrivals if one.entry.container == f"{number}"}
        ran = {f"/usr/bin/{program.split()[0].rpartition('/')[2]}" for program in actor.programs}
        assert paths >= {"/usr/bin/bash", scene.LIBRARY, scene.WAITING, *ran}


def test_the_tpm_refuses_to_reset_the_register(demo: Demo) -> None:
    seen = demo.performance.acts[2].deed.seen
    assert any("Could not reset PCR index: 11" in line for line in seen), seen
    assert "exit status 1" in seen


def test_the_recording_fits_on_a_page(demo: Demo) -> None:
    assert len(picture.svg(demo.performance).encode()) <= picture.SVG_MAX
