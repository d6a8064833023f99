"""The demo as plain lines: for a pipe, a file, or a user who asks for it. No line has a control sequence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from testbed.attest.decoded.decode import DecodedEntry
from testbed.attest.verdict import Verdict
from testbed.lab.demo import words
from testbed.lab.demo.live import Arrival
from testbed.lab.demo.show import Performance


class Lines:
    """Shows the demo on a stream of text. It never waits for a key."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def scene(self, title: str, text: str) -> None:
        """Print the title and the sentence after an empty line."""
        self._print(f"\n== {title}", text)

    def say(self, text: str) -> None:
        """Print a sentence."""
        self._print(text)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Print what goes on, and on another line how long it took."""
        self._print(f"  ... {text}")
        begun = time.monotonic()
        yield
        self._print(f"      done, {time.monotonic() - begun:.1f} s")

    @contextmanager
    def live(self) -> Iterator[Callable[[Arrival], None]]:
        """Hold what prints a line for each entry."""
        yield lambda arrival: self._print(f"  {arrival.seconds:5.1f} s  {_line(arrival.entry)}")

    def seen(self, lines: Sequence[str]) -> None:
        """Print each line, indented."""
        self._print(*(f"    {line}" for line in lines))

    def entries(self, entries: Sequence[DecodedEntry]) -> None:
        """Print a line for each entry."""
        if entries:
            self._print("  new in the log:", *(f"    {_line(entry)}" for entry in entries))

    def verdict(self, verdict: Verdict) -> None:
        """Print the verdict, then why."""
        self._print(f"  VERDICT: {verdict.judgement}", *(f"    {line}" for line in words.extent(verdict)))
        if verdict.ok:
            self._print(*(f"    {sentence}" for sentence in words.GOOD))
        for reason in words.reasons(verdict):
            self._print(f"    {reason.title}: {reason.means}")
            if reason.example is not None:
                self._print(f"      {reason.example.where}")
                self._print(f"      expected {reason.example.expected}", f"      got      {reason.example.got}")

    def ending(self, performance: Performance) -> None:
        """Print a few lines for each act."""
        self.scene("What was done, and what the verifier said", performance.machine)
        for number, played in enumerate(performance.acts, 1):
            self._print(
                f"  {number}. {played.act.done}",
                f"     {words.kinds(played.verdict)}: {words.why(played.verdict, played.deed.result)}",
            )
        for problem in performance.problems:
            self._print(f"NOT AS EXPECTED: {problem}")

    def pause(self) -> None:
        """Do not wait."""

    def _print(self, *lines: str) -> None:
        self._out.write("".join(f"{line}\n" for line in lines))
        self._out.flush()


def _line(entry: DecodedEntry) -> str:
    container = "host" if entry.container is None else f"container {entry.container}"
    return f"PCR {entry.pcr}  {container:<11}  {entry.kind:<13}  {entry.says}"
