"""What a measurer brings into a guest, in which order, and what is said when the guest refuses a part of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from testbed import measurers, plugins
from testbed.errors import DeployError
from testbed.guest import Completed
from testbed.measurers import Claimed, Executed, Launched, What


class FakeGuest:
    """Refuses the command whose first word ends with ``refuses``."""

    def __init__(self, refuses: str = "nothing", out: bytes = b"") -> None:
        self.refuses = refuses
        self.out = out
        self.ran: list[str] = []
        self.files: dict[str, bytes] = {}

    def run(self, argv: Sequence[str], *, timeout: float = 60, input: bytes = b"", check: bool = True) -> Completed:
        self.ran.append(" ".join(argv))
        refused = argv[0].endswith(self.refuses)
        out = b"[1.0] the kernel's last word" if argv[0] == "dmesg" else self.out
        return Completed(argv=tuple(argv), code=int(refused), out=out, err=b"no" if refused else b"", seconds=0.0)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        self.files[path] = data

    def get(self, path: str) -> bytes:
        return self.files[path]


def test_policy_then_module_then_programs() -> None:
    guest, measurer = FakeGuest(), plugins.measurer("container-file")
    with measurer.attach(measurer, guest):
        assert guest.files[measurers.POLICY_STAGED].decode().splitlines() == list(measurer.policy)
        assert [line.split()[0] for line in guest.ran] == ["sh", "insmod", "/opt/testbed/measurer"]
        assert "--mode file" in guest.ran[-1]
    assert " detach " in guest.ran[-1]


@pytest.mark.parametrize("name", ["none", "none2", "ima-exec", "hooks-only", "container-file2", "container-image"])
def test_every_arm_runs_as_many_commands_before_the_workload(name: str) -> None:
    guest, measurer = FakeGuest(), plugins.measurer(name)
    with measurer.attach(measurer, guest):
        policy, module, programs = guest.ran
        loads = bool(measurer.policy)
        assert policy.endswith(f"> {measurers.POLICY}" if loads else "> /dev/null")
        staged = guest.files[measurers.POLICY_STAGED].decode().splitlines()
        assert staged == list(measurer.policy) if loads else all(line.startswith("#") for line in staged)
        assert module.split() == ["insmod" if measurer.mode else "modinfo", "/opt/testbed/testbed_measurer.ko"]
        assert programs.split()[0] == "/opt/testbed/measurer"
        assert programs.split()[1] == ("attach" if measurer.mode else "nothing")
    assert [" detach " in line for line in guest.ran[3:]] == ([True] if measurer.mode else [])


def test_the_baseline_has_no_counters() -> None:
    for name in ("none", "none2"):
        guest, measurer = FakeGuest(), plugins.measurer(name)
        assert measurers.counters(measurer, guest) == {}
        measurers.beat(measurer, guest)
        assert guest.ran == []


def test_of_the_placebo_nothing_is_attached_when_the_workload_runs() -> None:
    guest, sham, image = FakeGuest(), plugins.measurer("sham"), plugins.measurer("container-image")
    with sham.attach(sham, guest):
        assert guest.files[measurers.POLICY_STAGED].decode().splitlines() == list(image.policy)
        assert [line.split()[0] for line in guest.ran[:2]] == ["sh", "insmod"]
        assert "attach --mode image" in guest.ran[2]
        assert " detach " in guest.ran[3]
        assert len(guest.ran) == 4
    assert len(guest.ran) == 4
    assert sham.count(sham, guest) == {}
    assert sham.claim([Executed(container="one", path=PurePosixPath("/true"), digest="aa", size=1)]) == frozenset()
    assert sham.expect == {"unknown-window"}


def test_an_arm_that_runs_twice_differs_in_its_name_alone() -> None:
    twins = [one for one in map(plugins.measurer, plugins.names("measurers")) if one.again]
    assert {(one.name, one.again) for one in twins} == {
        ("container-file2", "container-file"),
        ("container-drift2", "container-drift"),
    }
    for one in twins:
        first = plugins.measurer(str(one.again))
        assert one == replace(first, name=one.name, summary=one.summary, again=one.again, rung=one.rung, steps=())
        assert first.again is None


def test_programs_are_taken_out_after_an_error() -> None:
    guest, measurer = FakeGuest(), plugins.measurer("hooks-only")
    with pytest.raises(ZeroDivisionError), measurer.attach(measurer, guest):
        raise ZeroDivisionError
    assert " detach " in guest.ran[-1]


@pytest.mark.parametrize(
    ("refuses", "what", "hint"),
    [
        ("sh", "container-file: the guest refused the IMA policy: no", "one policy"),
        ("insmod", "container-file: the guest refused the kernel module: no", "build it for the kernel"),
        ("measurer", "container-file: the guest refused the BPF programs: no", "BPF_LSM"),
    ],
)
def test_a_refusal_says_what_and_what_the_kernel_said(refuses: str, what: str, hint: str) -> None:
    measurer = plugins.measurer("container-file")
    with pytest.raises(DeployError) as caught, measurer.attach(measurer, FakeGuest(refuses)):
        pytest.fail("it was refused")
    assert caught.value.message.startswith(what)
    assert "the kernel's last word" in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_status == 3


def test_a_beat_is_asked_of_programs_that_measure() -> None:
    for name, asked in (
        ("container-file", True),
        ("container-image", True),
        ("container-drift", True),
        ("hooks-only", False),
        ("ima-exec", False),
        ("none", False),
    ):
        guest = FakeGuest()
        measurers.beat(plugins.measurer(name), guest)
        assert any(" beat " in line for line in guest.ran) == asked


def test_periodic_beats_are_the_measurers_wish() -> None:
    for seconds in (0, 5):
        guest, measurer = FakeGuest(), replace(plugins.measurer("container-file"), beat=seconds)
        with measurer.attach(measurer, guest):
            assert (f"--beat {seconds}" in guest.ran[-1]) == bool(seconds)


def test_counters_are_numbers_by_name() -> None:
    guest = FakeGuest(out=b'{"files": 3, "unmeasured_no_rule": 0}')
    assert measurers.counters(plugins.measurer("hooks-only"), guest) == {"files": 3, "unmeasured_no_rule": 0}


def test_claims_tell_containers_apart_where_the_measurer_does() -> None:
    path = PurePosixPath("/usr/bin/true")
    ran = [Executed(container=name, path=path, digest="aa", size=1) for name in ("one", "two")]
    apart = plugins.measurer("container-file").claim(ran)
    assert apart == {Claimed(pcr=11, container=name, path=str(path), digest="aa") for name in ("one", "two")}
    together = plugins.measurer("ima-exec").claim(ran)
    assert together == {Claimed(pcr=10, container=None, path=str(path), digest="aa")}
    assert plugins.measurer("none").claim(ran) == frozenset()


def test_a_launch_is_promised_with_its_arguments_as_an_entry_has_them() -> None:
    image = plugins.measurer("container-image")
    assert (image.mode, image.pcr, image.policy) == ("image", 11, plugins.measurer("container-file").policy)

    def shown(*argv: str) -> str:
        (one,) = (c for c in image.claim([Launched(container="c", image="aa", argv=argv)]) if c.what is What.LAUNCH)
        assert (one.pcr, one.container, one.digest) == (11, "c", "aa")
        return one.path

    assert shown("/bin/sh", "-c", "exit 0") == "/bin/sh -c 'exit 0'"
    assert shown("/bin/x", "", "\udcff") == "/bin/x '' '\udcff'"
    assert shown("a" * 4095) == "a" * 4095
    assert shown("a" * 4094, "b") == f"{'a' * 4094} b ... (cut, 2 in all)"
    assert shown("a" * 4095, "b") == f"{'a' * 4095} ... (cut, 2 in all)"
    assert shown("a" * 9000, "b") == f"{'a' * 4096} ... (cut, 2 in all)"


def test_an_image_is_promised_once() -> None:
    ran = [Launched(container=name, image="aa") for name in ("one", "two")]
    claimed = plugins.measurer("container-image").claim(ran)
    assert {(one.what.value, one.container, one.path) for one in claimed} == {
        ("image", None, ""),
        ("launch", "one", ""),
        ("launch", "two", ""),
    }


def test_a_prototype_promises_what_eight_bytes_give() -> None:
    ran = [
        Executed(container="c", path=PurePosixPath("/a"), digest="11" * 32, size=1),
        Executed(container="d", path=PurePosixPath("/a"), digest="11" * 8 + "22" * 24, size=1),
        # What follows the zero byte is the namespace's number: unknown.
        Executed(container="c", path=PurePosixPath("/b"), digest="11" * 7 + "00" * 25, size=1),
    ]
    lines = {one for one in plugins.measurer("prototype-file").claim(ran) if one.pcr == 11}
    eight = hashlib.sha256(b"\x11" * 8).hexdigest()
    assert lines == {Claimed(pcr=11, container=None, path="*:/a", digest=eight)}
    image = plugins.measurer("prototype-image")
    nothing = "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"
    assert {one for one in image.claim(ran) if one.pcr == 11} == {
        Claimed(pcr=11, container=None, path="*", digest=nothing)
    }
    assert image.claim([]) == frozenset()
