"""What ``container-file`` records, and of each start of a container its image's digest and how it was started."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from testbed.measurers import (
    ARGUMENTS_MAX,
    Claimed,
    Launched,
    Measurer,
    Ran,
    Step,
    What,
    arguments_text,
    container_file,
)

PCR = container_file.PCR


def claim(ran: Iterable[Ran]) -> frozenset[Claimed]:
    """Promise the entries of files, one launch for each container, and one entry for each image that was started."""
    known = list(ran)
    return container_file.claim(known) | frozenset(_starts(known))


def _starts(ran: Iterable[Ran]) -> Iterator[Claimed]:
    for launch in ran:
        if isinstance(launch, Launched):
            yield Claimed(pcr=PCR, container=None, path="", digest=launch.image, what=What.IMAGE)
            text = "" if launch.argv is None else _shown(launch.argv)
            yield Claimed(pcr=PCR, container=launch.container, path=text, digest=launch.image, what=What.LAUNCH)


def _shown(argv: tuple[str, ...]) -> str:
    """Write arguments as an entry has them: the first ``ARGUMENTS_MAX`` bytes, a zero byte after each of them."""
    said = b"".join(os.fsencode(argument) + b"\0" for argument in argv)
    parts = said[:ARGUMENTS_MAX].split(b"\0")
    cut_of = len(argv) if len(said) > ARGUMENTS_MAX else None
    return arguments_text(parts if parts[-1] else parts[:-1], cut_of=cut_of)


MEASURER = Measurer(
    name="container-image",
    summary="container-file, and each start of a container with the digest of its whole image, on PCR 11",
    policy=container_file.MEASURER.policy,
    mode="image",
    pcr=PCR,
    claim=claim,
    rung=50,
    steps=(
        Step(
            name="launch",
            title="start of a known image",
            arm="container-image",
            over=("container-file",),
            terms=("walked", "launches"),
        ),
        Step(
            name="image",
            title="first start of an image",
            arm="container-image",
            over=("container-file",),
            terms=("image_bytes", "image_files", "runtimes", "walked", "launches"),
            first=True,
        ),
    ),
)
