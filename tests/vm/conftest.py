"""Machines for the tests that boot: skipped with a reason where the host cannot boot one, failed instead if forced."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from booted import Booted, boot

from testbed import spec
from testbed.lab import campaign, probe
from testbed.lab.block import Parts
from testbed.lab.kernel import load_kernels
from testbed.lab.machine import Lab, open_lab
from testbed.record import Tier

# `make kernels` wants others: names with commas between, or all that there are.
_WISH = os.environ.get("TESTBED_KERNELS", "debian-6.1,debian-6.12")
KERNELS = tuple(load_kernels()) if _WISH == "all" else tuple(_WISH.split(","))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.vm)


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


@pytest.fixture(scope="module", params=KERNELS)
def booted(
    request: pytest.FixtureRequest, lab: Lab, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Booted]:
    """One machine a module and kernel, shut down after the module's last test of that kernel."""
    with boot(lab, parts[request.param], tmp_path_factory.mktemp(request.param)) as machine:
        yield machine
