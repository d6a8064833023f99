"""Plugins: found by name, named like their file, and a wrong name gets the list of the right ones."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest

from testbed import plugins
from testbed.errors import SpecError
from testbed.measurers import LAUNCHING, Executed, Launched
from testbed.runtimes import Start

LOOK_UP: dict[str, Any] = {
    "measurers": plugins.measurer,
    "runtimes": plugins.runtime,
    "workloads": plugins.workload,
    "attacks": plugins.attack,
}
EVERY = [(family, name) for family in LOOK_UP for name in plugins.names(family)]


@pytest.mark.parametrize(
    ("family", "some"),
    [
        ("measurers", {"none", "none2", "ima-exec", "hooks-only", "container-file"}),
        ("runtimes", {"crun", "runc"}),
        ("workloads", {"tools"}),
        ("attacks", {"none"}),
    ],
)
def test_names_come_from_the_files(family: str, some: set[str]) -> None:
    names = plugins.names(family)
    assert some <= set(names)
    assert list(names) == sorted(names)


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_plugin_is_named_like_its_file(family: str, name: str) -> None:
    plugin = LOOK_UP[family](name)
    assert plugin.name == name
    assert plugin.summary


@pytest.mark.parametrize("family", LOOK_UP)
@pytest.mark.parametrize("name", ["no-such", "", "__init__", "none.none", "ima_exec", "os"])
def test_an_unknown_name_gets_the_list(family: str, name: str) -> None:
    with pytest.raises(SpecError) as caught:
        LOOK_UP[family](name)
    assert f"no {family[:-1]} {name!r}" in caught.value.message
    assert all(known in caught.value.hint for known in plugins.names(family))


@pytest.mark.parametrize("name", plugins.names("workloads"))
def test_a_workload_refuses_silence(name: str) -> None:
    with pytest.raises(Exception, match="expected"):
        plugins.workload(name).parse("")


@pytest.mark.parametrize("name", plugins.names("runtimes"))
def test_a_runtime_starts_what_it_is_told_where_it_is_told(name: str) -> None:
    def said(id: str, cgroup: str) -> str:
        argv = ("/bin/x", "-y {z}")
        steps = plugins.runtime(name).steps(Start(id=id, image="/store/tools", argv=argv, cgroup=cgroup))
        assert not steps.cidfile or id in steps.cidfile
        return " ".join([*steps.run, *steps.files.values(), *(word for argv in steps.before for word in argv)])

    words = said("start7", "/a/b")
    assert all(word in words for word in ("/store/tools", "/bin/x", "-y {z}", "start7", "/a/b"))
    assert words.replace("start7", "start8") == said("start8", "/a/b")
    assert words.replace("/a/b", "/c/d") == said("start7", "/c/d")


@pytest.mark.parametrize("name", plugins.names("measurers"))
def test_a_measurer_claims_exactly_if_it_has_a_register(name: str) -> None:
    measurer = plugins.measurer(name)
    executed = [_executed("one"), _executed("two")]
    claimed = measurer.claim(executed)
    assert bool(claimed) == (measurer.pcr is not None)
    # On PCR 10 is what plain IMA records beside it.
    assert {claim.pcr for claim in claimed} - {10} <= {measurer.pcr}
    assert measurer.claim([]) == frozenset()


def test_only_container_measurers_tell_containers_apart() -> None:
    executed = [_executed("one"), _executed("two")]
    assert len(plugins.measurer("ima-exec").claim(executed)) == 1
    assert {claim.container for claim in plugins.measurer("container-file").claim(executed)} == {"one", "two"}


def test_what_was_launched_is_for_measurers_of_images_alone() -> None:
    launched = Launched(container="one", image="ab" * 32, argv=("/usr/bin/x",))
    for name in plugins.names("measurers"):
        measurer = plugins.measurer(name)
        more = measurer.claim([_executed("one"), launched]) - measurer.claim([_executed("one")])
        assert {claim.what.value for claim in more} == ({"image", "launch"} if measurer.mode in LAUNCHING else set())


def _executed(container: str) -> Executed:
    return Executed(container=container, path=PurePosixPath("/usr/bin/x"), digest="00" * 32, size=1)


def test_a_plugins_digest_is_that_of_its_own_family() -> None:
    digests = {plugins.source_digest("measurers", name) for name in plugins.names("measurers")}
    assert len(digests) == len(plugins.names("measurers"))
    assert plugins.source_digest("runtimes", "crun") != plugins.source_digest("runtimes", "runc")
