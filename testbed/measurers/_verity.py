"""The digest that an entry has of a file, with its kind: no fs-verity digest is taken for a SHA-256 of content."""

from __future__ import annotations

from testbed.measurers import Executed

VERITY = "verity:"


def content(executed: Executed) -> str:
    """Return the digest that an entry of this project's measurer has of a file: fs-verity's, if the file has one."""
    return VERITY + executed.verity if executed.verity else executed.digest
