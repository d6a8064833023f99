"""Of each start of a container its image's digest and how it was started; of files only code that is not the image's.

The image's digest stands for the image's own code, so a start of a known image costs two entries.
"""

from __future__ import annotations

from collections.abc import Iterable

from testbed.measurers import BASELINE, Claimed, Executed, Measurer, Ran, Step, container_file, container_image

PCR = container_file.PCR


def claim(ran: Iterable[Ran]) -> frozenset[Claimed]:
    """Promise what ``container-image`` does, without an entry for a file that is the image's own."""
    return container_image.claim(item for item in ran if not (isinstance(item, Executed) and item.of_image))


MEASURER = Measurer(
    name="container-drift",
    summary="each start of a container with the digest of its whole image, and code that is not of it, on PCR 11",
    policy=container_file.MEASURER.policy,
    mode="drift",
    pcr=PCR,
    claim=claim,
    rung=60,
    steps=(
        Step(
            name="drift",
            title="start of a known image, without its files",
            arm="container-drift",
            over=("hooks-only", BASELINE),
            terms=("launches", "lookups"),
        ),
        Step(
            name="drift-image",
            title="first start of an image, without its files",
            arm="container-drift",
            over=("hooks-only", BASELINE),
            terms=("image_bytes", "image_files", "runtimes", "launches"),
            first=True,
        ),
    ),
)
