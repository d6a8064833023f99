"""The demo from an empty cache to its end: what is missing is built, a machine boots, the acts are played."""

from __future__ import annotations

import tempfile
from pathlib import Path

from testbed import spec
from testbed.lab import campaign, places, probe
from testbed.lab.block import Parts
from testbed.lab.build import cache
from testbed.lab.build.image import build_container_image, load_containers
from testbed.lab.demo import play, scene
from testbed.lab.demo.show import Performance, Show


def build(kernel: str, tier: str, say: cache.Progress) -> Parts:
    """Return what the machine is made of; built now if the cache lacks it, which takes minutes.

    Raises ``BuildError``, ``HostError``.
    """
    places.check(*places.always())
    wish = spec.Experiment(
        name="demo", question="?", kernels=(kernel,), measurers=(scene.MEASURER.name,), workloads=(scene.IMAGE,)
    )
    chosen, why = probe.choose_tier(tier, kernel, say)
    say(f"tier {chosen}: {why}")
    image = build_container_image(load_containers()[scene.IMAGE], say)
    return campaign.build_parts(kernel, (image,), wish, chosen, say)


def demo(parts: Parts, connect: str | None, show: Show) -> Performance:
    """Boot the machine and play all. No machine and no file is left, whenever it ends. Raises as ``play`` does."""
    # It imports libvirt, which a desk does not have.
    from testbed.lab.machines.lab import open_lab  # noqa: PLC0415

    (image,) = parts.images
    with tempfile.TemporaryDirectory(prefix="testbed-") as place, open_lab(connect) as lab:
        directory = Path(place)
        with play.booted(lab, parts, directory, show) as ready:
            performance = play.perform(lab, ready, image, directory, show)
        show.ending(performance)
        return performance
