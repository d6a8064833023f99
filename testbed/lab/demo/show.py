"""What the demo needs of a screen. ``lines`` and ``panels`` are the two that there are; tests have their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from testbed.attest.decoded.decode import DecodedEntry
from testbed.attest.verdict import Verdict
from testbed.lab.demo.acts import Act, Deed
from testbed.lab.demo.live import Arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A bundle that was collected just now, and what the verifier says of it."""

    bundle: Path
    nonce: bytes
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """An act that was played. ``problem``: in which way it did not end as it must; empty if it did."""

    act: Act
    deed: Deed
    verdict: Verdict
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """A whole demo. ``arrivals``: the entries that were seen live; ``honest``: the verdict before the acts.

    ``problem``: why it ended before the acts. ``machine``: the kernel and the tier, for people.
    """

    machine: str
    arrivals: tuple[Arrival, ...]
    honest: Exhibit
    acts: tuple[Played, ...]
    problem: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """What was not as it must be, in the order in which it happened."""
        said = (self.problem, *(f"{played.act.title}: {played.problem}" for played in self.acts if played.problem))
        return tuple(problem for problem in said if problem)


class Show(Protocol):
    """Where the demo is shown."""

    def scene(self, title: str, text: str) -> None:
        """Begin a part; ``text`` says what will be done."""
        ...

    def say(self, text: str) -> None:
        """Show a sentence."""
        ...

    def working(self, text: str) -> AbstractContextManager[None]:
        """Show that something goes on that takes seconds, and at its end how long it took."""
        ...

    def live(self) -> AbstractContextManager[Callable[[Arrival], None]]:
        """Hold a function that shows an entry that has just arrived."""
        ...

    def seen(self, lines: Sequence[str]) -> None:
        """Show commands, and what they said."""
        ...

    def entries(self, entries: Sequence[DecodedEntry]) -> None:
        """Show entries of a log."""
        ...

    def verdict(self, verdict: Verdict) -> None:
        """Show a verdict in plain words."""
        ...

    def ending(self, performance: Performance) -> None:
        """Show the table of all acts."""
        ...

    def pause(self) -> None:
        """Wait until the user wants to go on, where there is a user."""
        ...
