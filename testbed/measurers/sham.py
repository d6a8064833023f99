"""The placebo: policy, module and programs are loaded as for ``container-image``, and detached before anything runs.

What it costs over the baseline is what loading leaves behind (memory, caches, an IMA policy that matches nothing), not
what measuring costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from testbed.guest import Guest
from testbed.measurers import Measurer, begin, container_image, detach


@contextmanager
def attach(measurer: Measurer, guest: Guest) -> Iterator[None]:
    """Hold a guest in which the programs were, and are not any more. Raises as ``measurers.begin`` does."""
    whole = replace(container_image.MEASURER, name=measurer.name)
    begin(whole, guest)
    detach(guest)
    yield


MEASURER = Measurer(
    name="sham",
    summary="everything of container-image is loaded, then its programs are detached before the workload (placebo)",
    policy=container_image.MEASURER.policy,
    # The log says that the programs came and went, and the verifier must say so, too.
    expect=frozenset({"unknown-window"}),
    attach=attach,
    rung=15,
)
