"""The workload driver, its request and what is made of its account."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from testbed import plugins
from testbed.errors import LabError
from testbed.guest import Completed
from testbed.lab.in_guest import drive
from testbed.lab.iterate import DRIVER, IterationRequest, crowd, deploy, iterate, request
from testbed.workloads import tools

IMAGE = "tools@sha256:00"


def job(runtime: str, image: str = IMAGE) -> IterationRequest:
    return IterationRequest(workload=tools.WORKLOAD, runtime=plugins.runtime(runtime), image=image)


def steps(asked: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for group in asked["groups"] for step in group]


class FakeGuest:
    def __init__(self, out: bytes) -> None:
        self.out = out
        self.asked: bytes = b""
        self.ran: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], *, timeout: float = 60, input: bytes = b"", check: bool = True) -> Completed:
        self.asked = input
        self.ran.append(tuple(argv))
        return Completed(argv=tuple(argv), code=0, out=self.out, err=b"", seconds=0.0)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        raise AssertionError("iterate writes nothing")

    def get(self, path: str) -> bytes:
        raise AssertionError("iterate reads nothing")


def account(
    *,
    code: int | None = 0,
    out: str = "\n".join(tools.EXPECTED),
    err: str = "",
    alive: int = 0,
    elsewhere: int | None = 70_000_000,
) -> bytes:
    before = {
        "monotonic_ns": 10,
        "log_entries": 1,
        "slab_kib": 7,
        "cached_kib": 9,
        "ticks": 5,
        "steal_ticks": 0,
        "usage_usec": 100,
    }
    after = {
        "monotonic_ns": 2_000_000_010,
        "log_entries": 31,
        "slab_kib": 8,
        "cached_kib": 9,
        "ticks": 205,
        "steal_ticks": 10,
        "usage_usec": 1_500_100,
        "user_usec": 60,
        "system_usec": 1,
    }
    runs = [{"code": code, "out": out, "err": err, "id": f"c{n}"} for n in range(3)]
    said = {"before": before, "after": after, "runs": runs, "alive": alive, "elsewhere_ns": elsewhere}
    return json.dumps(said).encode()


def run(out: bytes) -> object:
    return iterate(FakeGuest(out), job("crun"), 1, warmup=False)


def test_the_cgroups_are_those_that_were_made_as_the_driver_came(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = FakeGuest(b"")
    monkeypatch.setattr(guest, "put", lambda data, path: guest.ran.append((path,)))
    deploy(guest)
    assert guest.ran == [(DRIVER,), ("python3", DRIVER, "make")]
    made = json.loads(guest.asked)
    asked = request(job("crun"), 0)
    assert made["cgroup"] == asked["cgroup"]
    configs = [json.loads(next(iter(step["files"].values()))) for step in steps(asked)]
    inside = {config["linux"]["cgroupsPath"].rpartition("/")[0] for config in configs}
    assert inside == {made["containers"]} == {f"{made['cgroup']}/containers"}


def test_each_start_has_an_id_of_its_own() -> None:
    asked = request(job("crun"), 4)
    ids = [step["id"] for step in steps(asked)]
    assert len(set(ids)) == tools.WORKLOAD.starts == len(ids)
    assert all(step["run"][-1] == step["id"] for step in steps(asked))
    assert ids != [step["id"] for step in steps(request(job("crun"), 5))]


def test_a_workload_with_network_is_a_pod_of_one() -> None:
    alone = job("crun")
    assert not any("unshare" in command for step in steps(request(alone, 0)) for command in step["before"])
    asked = request(replace(alone, workload=replace(alone.workload, network=True)), 0)
    assert len({step["id"] for step in steps(asked)}) == tools.WORKLOAD.starts
    for step in steps(asked):
        (unshare,) = (command for command in step["before"] if "unshare" in command)
        config = json.loads(next(iter(step["files"].values())))
        kept = [word.partition("=")[2] for word in unshare if word.startswith("--net=")]
        assert kept == [one["path"] for one in config["linux"]["namespaces"] if one["type"] == "network"]


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_crowd_is_begun_before_and_ended_after(runtime: str) -> None:
    guest = FakeGuest(b"")
    wish = replace(job(runtime, "/layer"), workload=plugins.workload("alive-10"))
    with crowd(guest, wish) as alive:
        assert guest.ran == [("python3", DRIVER, "begin")]
        begun = json.loads(guest.asked)
    assert guest.ran == [("python3", DRIVER, "begin"), ("python3", DRIVER, "end")]
    assert json.loads(guest.asked) == "/testbed-crowd"
    assert len({one.id for one in alive}) == len(alive) == 10
    for started, step in zip(alive, begun, strict=True):
        assert {"run", "--detach", started.id} <= set(step["run"])
        config = json.loads(next(iter(step["files"].values())))
        role = wish.workload.roles[started.role]
        assert tuple(config["process"]["args"]) == role.argv == ("/alive/wait",)
        # What it does is not counted, and it is what is looked for.
        assert config["linux"]["cgroupsPath"] == f"/testbed-crowd/{started.id}"
    asked = request(wish, 0)
    assert asked["crowd"] == "/testbed-crowd"
    assert not {step["id"] for step in steps(asked)} & {one.id for one in alive}


def test_without_a_crowd_nothing_is_asked_of_the_guest() -> None:
    guest = FakeGuest(b"")
    with crowd(guest, job("podman")) as alive:
        assert alive == ()
    assert guest.ran == []
    assert request(job("crun"), 0)["crowd"] == ""


def test_a_crowd_that_shrank_is_a_failure() -> None:
    said = account(out="done\n", alive=9)
    for name in ("alive-10", "alive-1"):
        wish = replace(job("crun"), workload=replace(plugins.workload(name), starts=3))
        assert wish.workload.crowd
        done = iterate(FakeGuest(said), wish, 1, warmup=False)
        assert "9 of the 1" in done.failure
        whole = iterate(FakeGuest(account(out="done\n", alive=wish.workload.crowd.size)), wish, 1, warmup=False)
        assert whole.failure == ""


def test_podman_tells_its_own_id() -> None:
    step = steps(request(job("podman"), 0))[0]
    assert f"--cidfile={step['cidfile']}" in step["run"]
    assert "--rm" not in step["run"], "podman removes the file with the id then, before it is read"
    assert any(command[0] == "podman" and command[-1] == step["id"] for command in step["after"])
    assert step["run"][-len(tools.WORKLOAD.argv) - 1] == IMAGE


def test_a_bundle_asks_for_what_it_is_given() -> None:
    step = steps(request(job("runc", "/layer/diff"), 0))[0]
    ((path, text),) = step["files"].items()
    config = json.loads(text)
    assert config["process"]["args"] == list(tools.WORKLOAD.argv)
    assert config["linux"]["cgroupsPath"] == f"/testbed/containers/{step['id']}"
    mount = next(command for command in step["before"] if "mount" in command)
    assert "lowerdir=/layer/diff," in mount[mount.index("-o") + 1]
    assert path.startswith(step["run"][3])


def test_the_account_becomes_samples_in_base_units() -> None:
    done = iterate(FakeGuest(account()), job("runc"), 1, warmup=True)
    values: dict[str, tuple[object, str, bool]] = {
        sample.metric: (sample.value, sample.unit, sample.warmup) for sample in done.samples
    }
    assert values["cpu"] == (pytest.approx(1.5), "s", True)
    assert values["elapsed"] == (pytest.approx(2.0), "s", True)
    assert values["log_entries"] == (30, "1", True)
    assert values["log_before"] == (1, "1", True)
    assert values["slab"] == (1024, "B", True)
    assert values["guest_steal"] == (pytest.approx(0.05), "1", True)
    assert values["operations"] == (tools.WORKLOAD.starts, "1", True)
    assert values["elsewhere"] == (pytest.approx(0.07), "s", True)
    assert [started.id for started in done.started] == ["c0", "c1", "c2"]
    assert done.failure == ""


def test_what_the_guests_kernel_does_not_say_is_no_sample() -> None:
    done = iterate(FakeGuest(account(elsewhere=None)), job("runc"), 1, warmup=True)
    assert "elsewhere" not in {sample.metric for sample in done.samples}


# Of a machine with two processors, shortened: the second one is idle, and its tick has stopped.
TIMERS = """Timer List Version: v0.10
HRTIMER_MAX_CLOCK_BASES: 8
now at 16167637608378 nsecs

cpu: 0
 clock 0:
  .base:       0
  .index:      0
active timers:
 #0: <0>, tick_nohz_handler, S:01
 # expires at 16167640000000-16167640000000 nsecs [in 2391622 to 2391622 nsecs]
  .nohz           : 1
  .highres        : 1
  .last_tick      : 16167636000000 nsecs
  .tick_stopped   : 0
  .idle_jiffies   : 4295000000
  .idle_calls     : 8000
  .idle_sleeps    : 4000
  .idle_entrytime : 16167630000000 nsecs
  .idle_waketime  : 16167631000000 nsecs
  .idle_exittime  : 16167631000000 nsecs
  .idle_sleeptime : 4056230026638 nsecs
  .iowait_sleeptime: 42684901235 nsecs
  .last_jiffies   : 4295000001
  .idle_expires   : 16167648000000 nsecs
jiffies: 4295000002

cpu: 1
  .tick_stopped   : 1
  .idle_entrytime : 16167600000000 nsecs
  .idle_sleeptime : 2881092809596 nsecs
  .iowait_sleeptime: 58095975041 nsecs
"""


def test_work_is_all_time_less_the_idle_time_of_each_processor() -> None:
    at = 16167637608378
    first, second = 4056230026638 + 42684901235, 2881092809596 + 58095975041 + (at - 16167600000000)
    assert drive.ran_ns(TIMERS) == 2 * at - first - second
    one = TIMERS.partition("cpu: 1")[0]
    assert drive.ran_ns(one) == at - first


@pytest.mark.parametrize("missing", ["now at", "  .idle_sleeptime", "  .tick_stopped", "  .idle_entrytime"])
def test_a_kernel_that_does_not_say_all_of_it_says_nothing(missing: str) -> None:
    lines = [line for line in TIMERS.splitlines(keepends=True) if not line.startswith(missing)]
    assert drive.ran_ns("".join(lines)) is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (account(code=127, err="no such image"), "exit status 127: no such image"),
        (account(code=None), "did not finish in time"),
        (account(out="testbed\nwrong"), "line 2: expected '/usr/bin/bash', got 'wrong'"),
        (account(out="\n".join(tools.EXPECTED[:-1])), "expected 70 lines, got 69"),
    ],
)
def test_a_workload_that_failed_says_why(said: bytes, why: str) -> None:
    done = iterate(FakeGuest(said), job("crun"), 1, warmup=False)
    assert why in done.failure
    assert done.started, "containers that ran are recorded all the same"


def test_a_driver_without_account_is_the_labs_failure() -> None:
    with pytest.raises(LabError, match="printed no result"):
        run(b"Traceback")
