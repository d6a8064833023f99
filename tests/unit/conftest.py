"""What all unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from testbed.lab.build.kernel import Kernel

# How long an example takes says only how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: they are unreadable, and fresh keys would differ from worker to worker."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel that was built: only its names and digests are there."""
    nothing = tmp_path / "nothing"
    return Kernel(
        name="k",
        release="6.0",
        vmlinuz=nothing,
        initrd=nothing,
        modules=nothing,
        config=nothing,
        build_root=tmp_path / "root",
        digest="d1",
        build_digest="b1",
    )
