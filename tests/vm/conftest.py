"""Machines for the tests that boot: skipped with a reason where the host cannot boot one, failed instead if forced."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from booted import Booted, Saves, hold
from xdist.scheduler import LoadScopeScheduling

from testbed import spec
from testbed.lab import campaign, probe
from testbed.lab.block import Parts
from testbed.lab.build.kernel import load_kernels
from testbed.lab.machines.lab import Lab, open_lab
from testbed.record import Tier

# `make kernels` wants others: names with commas between, or all that there are.
_WISH = os.environ.get("TESTBED_KERNELS", "debian-6.1,debian-6.12")
_ALL = tuple(load_kernels())
KERNELS = _ALL if _WISH == "all" else tuple(_WISH.split(","))
# A kernel among a test's parameters: `test_it[debian-6.1-crun]`.
_KERNEL = re.compile(rf"(?<=[\[-])(?:{'|'.join(map(re.escape, _ALL))})(?=[]-])")


# The modules that take least time come last, so that two workers end at about the same time. In what comes first,
# test_bench counts instructions beside the machine of one processor of test_campaign; that of test_robust has two.
LAST = ("test_code", "test_kernels", "test_alive", "test_prototypes")


# Attacks of which `make test` runs one of each kind on the newer kernel; `make holes` runs them on both.
ATTACKED = "debian-6.12"
ATTACKS = ("test_holes", "test_denial", "test_second", "test_known", "test_drift", "test_verity")
# What depends on tools in the guest and not on its kernel runs on that kernel only.
ONE_KERNEL = (*ATTACKS, "test_collect")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.vm)
        if item.path.stem in ONE_KERNEL and ATTACKED not in item.nodeid:
            item.add_marker(pytest.mark.variant)
    items.sort(key=lambda item: LAST.index(item.path.stem) if item.path.stem in LAST else -1)


class ByMachine(LoadScopeScheduling):
    """Gives the tests that share a machine, those of one module and kernel, to one worker.

    `--dist loadgroup` would do, but pytest-xdist 3.8 writes the groups into an attribute that pytest 9.2 does not read.
    """

    def _split_scope(self, nodeid: str) -> str:
        kernel = _KERNEL.search(nodeid)
        return " ".join([nodeid.partition("::")[0], *([kernel[0]] if kernel else [])])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByMachine:
    config.option.loadscopereorder = False  # the order is ours, and not that of their numbers of tests
    return ByMachine(config, log)


def forced() -> bool:
    return bool(os.environ.get("TESTBED_FORCE_VM"))


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    if missing := [row for row in probe.capabilities() if row.needed and not row.ok]:
        reason = "; ".join(f"{row.name}: {row.found} ({row.remedy})" for row in missing)
        if forced():
            pytest.fail(f"this host cannot boot a machine: {reason}")
        pytest.skip(reason)
    with open_lab() as opened:
        yield opened


class _Parts(dict[str, Parts]):
    """Built when they are asked for, so that a kernel that cannot be built fails its own tests alone."""

    def __missing__(self, kernel: str) -> Parts:
        wish = spec.Experiment(
            name="tests", question="does it work?", kernels=(kernel,), measurers=("none",), workloads=("tools",)
        )
        self.update(campaign.build(wish, Tier.TCG, print))
        return self[kernel]


@pytest.fixture(scope="session")
def parts() -> dict[str, Parts]:
    """What each kernel's machines are made of; built if the cache lacks it, which takes some minutes."""
    return _Parts()


@pytest.fixture(scope="session")
def saves(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Saves:
    base = tmp_path_factory.getbasetemp()
    return Saves(lab=lab, home=_home(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the saved machines when the last worker has ended: pytest keeps its directories, and they are large."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory and "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(_home(factory.getbasetemp()), ignore_errors=True)


def _home(base: Path) -> Path:
    return base / "saves"


@pytest.fixture(scope="module", params=KERNELS)
def booted(
    request: pytest.FixtureRequest, saves: Saves, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Booted]:
    """One machine a module and kernel, shut down after the module's last test of that kernel."""
    with hold(saves, parts[request.param], tmp_path_factory.mktemp(request.param)) as machine:
        yield machine
