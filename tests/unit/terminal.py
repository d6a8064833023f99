"""What a program printed on a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator


def shown_on(terminal: int) -> bytes:
    """Read a terminal's own end until every program has closed the other one."""
    return b"".join(_pieces(terminal))


def _pieces(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # EIO: nobody has the other end open
            return
        if not piece:
            return
        yield piece
