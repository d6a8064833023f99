"""The kernel with detectors, its measurer and its machine: only `make kasan` has them, as it takes long to compile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import soak
from steps import Notebook

from testbed.guest import Guest
from testbed.lab import block, probe
from testbed.lab.build import cache, compiled, measurer, recipes
from testbed.lab.build.image import build_image, load_guests
from testbed.lab.campaign import GUEST
from testbed.lab.machines.domain import MachineSpec
from testbed.lab.machines.lab import Lab, open_lab
from testbed.lab.repository import BPF
from testbed.record import Tier

# A kernel that looks at each of its accesses boots ten times as slowly as another; all reports are wanted.
BOOT_SECONDS = 3600.0
WORDS = ("kasan_multi_shot", "systemd.default_timeout_start_sec=900")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("TESTBED_KASAN"):
        for item in items:
            item.add_marker(pytest.mark.skip(reason="only `make kasan` runs it"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """All that is needed to boot; ``key`` names it, so that steps of another are never taken for its own."""

    lab: Lab
    spec: MachineSpec
    bundle: measurer.MeasurerBundle
    tools: Path

    @property
    def key(self) -> str:
        parts = {"kernel": self.spec.kernel.digest, "disk": self.spec.image.digest, "measurer": self.bundle.digest}
        return cache.content_key(parts | {"tools": cache.read_meta(self.tools)["digest"]})[:12]

    def notebook(self, what: str) -> Notebook:
        return Notebook(path=soak.RESULTS / f"{what}-{self.key}")

    @contextmanager
    def boot(self, directory: Path) -> Iterator[Guest]:
        """Hold a machine with all that is brought in; its console stays in ``directory``."""
        with self.lab.boot(self.spec, directory, timeout=BOOT_SECONDS) as machine:
            block.deploy(machine.guest, self.bundle)
            soak.deploy(machine.guest, self.tools)
            yield machine.guest


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    missing = [row for row in probe.capabilities() if row.needed and not row.ok]
    if missing:
        pytest.fail(
            "this host cannot boot a machine: " + "; ".join(f"{r.name}: {r.found} ({r.remedy})" for r in missing)
        )
    built = compiled.build(recipes.load_built()["kasan"], print)
    image = build_image(load_guests()[GUEST], built, print)
    spec = MachineSpec(
        name="kasan", kernel=built, image=image, tier=Tier.TCG, vcpus=2, memory_mib=4096, kernel_words=WORDS
    )
    bundle = measurer.build_bundle(built, BPF, print)
    with open_lab() as lab:
        yield Bench(lab=lab, spec=spec, bundle=bundle, tools=soak.build_tools(built))
