"""One step of a check: what was checked, what is wrong, and what could not be checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from testbed.attest.decoded.as_text import escaped

# Problems of one step that are listed; the others are counted.
SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RecheckStep:
    """``name`` of the step, ``said``: what was checked, with numbers. ``problems``: each thing that is wrong.

    ``unchecked``: what this data does not allow to check. It is no problem, but the reader must know it.
    """

    name: str
    said: str
    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def lines(self) -> list[str]:
        """Return the step as lines of text, at most ``SHOWN`` problems."""
        word = "ok" if self.ok else "NOT OK"
        lines = [f"{self.name}: {word}: {self.said}"]
        # Names and reasons are somebody else's text: a terminal must not obey it.
        lines += [f"    {shown(problem)}" for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"    ... and {len(self.problems) - SHOWN} more; --json has them all")
        return [*lines, *(f"    not checked: {shown(reason)}" for reason in self.unchecked)]

    def as_json(self) -> dict[str, Any]:
        """Return the step as an object of JSON."""
        return {
            "step": self.name,
            "ok": self.ok,
            "said": self.said,
            "problems": list(self.problems),
            "unchecked": list(self.unchecked),
        }


def shown(text: str) -> str:
    """Return text on one line, with escapes for what cannot be printed."""
    return escaped(text.encode(errors="surrogateescape"))


def listed(words: Sequence[str], most: int = 4) -> str:
    """Return some words and how many more there are: ``a, b and 3 more``."""
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")
