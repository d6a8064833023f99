"""What a conversion could not carry over: named with its reason, never left out in silence."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.attest.policy.paths import shorten

_LISTED = 20


class Unsaid:
    """Things that were not carried over, by reason; ``remarks``: other differences."""

    def __init__(self) -> None:
        self._by_reason: dict[str, list[str]] = {}
        self.remarks: list[str] = []

    def left(self, reason: str, what: str) -> None:
        """Name one thing that was not carried over, and why."""
        self._by_reason.setdefault(reason, []).append(what)

    def lines(self) -> Iterator[str]:
        """Yield what was noted. Of each reason some examples are listed, and the others counted."""
        for reason, items in self._by_reason.items():
            yield from (f"not carried over: {shorten(item, 200)}: {reason}" for item in items[:_LISTED])
            if len(items) > _LISTED:
                yield f"not carried over: {len(items) - _LISTED} more: {reason}"
        yield from self.remarks
