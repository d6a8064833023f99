"""Bounds on what one input may cost, in steps and in memory: neither depends on how busy the machine is."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

MEMORY = 256 << 20


class TooManySteps(BaseException):
    """An input costs more calls than its size explains. No ``Exception``, so that nothing takes it for its own."""


@contextmanager
def few_steps(most: int) -> Iterator[None]:
    """Count calls of functions, in Python and in C; every loop of the verifier makes some."""
    left = most

    def count(_frame: FrameType, _event: str, _value: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            sys.setprofile(None)
            raise TooManySteps(f"more than {most} calls")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)


@contextmanager
def little_memory(most: int = MEMORY) -> Iterator[None]:
    """Let an allocation fail that takes the process more than ``most`` bytes beyond what it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
