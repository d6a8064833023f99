"""The demo on a terminal: panels, and a table of entries that grows while they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from testbed.attest.decoded.decode import DecodedEntry
from testbed.attest.finding import counted
from testbed.attest.verdict import Judgement, Verdict
from testbed.lab.demo import words
from testbed.lab.demo.live import Arrival
from testbed.lab.demo.show import Performance

_STYLES = {Judgement.TRUSTED: "bold green", Judgement.UNTRUSTED: "bold red", Judgement.MALFORMED: "bold magenta"}
_CONTAINERS = ("cyan", "yellow", "magenta", "blue")
_LIVE_ROWS = 16


class Panels:
    """Shows the demo on a terminal. ``paused``: it waits for Enter before each act."""

    def __init__(self, console: Console, *, paused: bool) -> None:
        self._console = console
        self._paused = paused

    def scene(self, title: str, text: str) -> None:
        """Show a rule with the title, and the sentence below it."""
        self._console.print()
        self._console.print(Rule(Text(title, style="bold"), align="left"))
        self._console.print(Text(text))

    def say(self, text: str) -> None:
        """Show a sentence."""
        self._console.print(Text(text))

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show a spinner while something goes on, and then how long it took."""
        begun = time.monotonic()
        with self._console.status(Text(text)):
            yield
        self._console.print(Text(f"  {text}: {time.monotonic() - begun:.1f} s", style="dim"))

    @contextmanager
    def live(self) -> Iterator[Callable[[Arrival], None]]:
        """Hold what adds a row to a table, which shows the last rows until the end and then all."""
        seen: list[Arrival] = []
        with Live(arrivals_table(seen), console=self._console, refresh_per_second=8) as shown:

            def add(arrival: Arrival) -> None:
                seen.append(arrival)
                shown.update(arrivals_table(seen[-_LIVE_ROWS:]))

            yield add
            shown.update(arrivals_table(seen))

    def seen(self, lines: Sequence[str]) -> None:
        """Show each line, in the colour of a terminal in the guest."""
        for line in lines:
            self._console.print(Text(f"  {line}", style="bold" if line.startswith("# ") else "dim"))

    def entries(self, entries: Sequence[DecodedEntry]) -> None:
        """Show entries as a table without times."""
        if entries:
            self._console.print(Text("  new in the log:"), entries_table(entries))

    def verdict(self, verdict: Verdict) -> None:
        """Show the verdict in a panel."""
        self._console.print(verdict_panel(verdict))

    def ending(self, performance: Performance) -> None:
        """Show the table of all acts."""
        self.scene("What was done, and what the verifier said", performance.machine)
        self._console.print(acts_table(performance))
        for problem in performance.problems:
            self._console.print(Text(f"NOT AS EXPECTED: {problem}", style="bold red"))

    def pause(self) -> None:
        """Wait for Enter."""
        if self._paused:
            self._console.print(Text("\npress Enter to go on", style="dim"), end=" ")
            try:
                input()
            except EOFError:  # nobody is there to press it
                self._paused = False


def entries_table(entries: Sequence[DecodedEntry]) -> Table:
    """Return entries as rows, coloured by their container."""
    table = _table()
    for entry in entries:
        table.add_row(*_cells(entry), style=_style(entry))
    return table


def arrivals_table(arrivals: Sequence[Arrival], *, first: int | None = None, last: int = 0) -> Table:
    """Return entries with the time of their arrival; with ``first``, only so many, and the ``last`` ones."""
    left_out = 0 if first is None else max(0, len(arrivals) - first - last)
    table = _table("seen at")
    for number, arrival in enumerate(arrivals):
        if first is None or not first <= number < first + left_out:
            table.add_row(f"{arrival.seconds:.1f} s", *_cells(arrival.entry), style=_style(arrival.entry))
        elif number == first:
            table.add_row("", "", "", "", f"({counted(left_out, 'more entry', 'more entries')})", style="dim")
    return table


def verdict_panel(verdict: Verdict, width: int | None = None) -> Panel:
    """Return the verdict with its reasons."""
    style = _STYLES[verdict.judgement]
    body: list[RenderableType] = [Text(line, style="dim") for line in words.extent(verdict)]
    if verdict.ok:
        body += [Text.assemble(("✓ ", "green"), sentence) for sentence in words.GOOD]
    for reason in words.reasons(verdict):
        body.append(Text.assemble((f"{reason.title}: ", "bold red"), reason.means))
        if reason.example is not None:
            lines = (reason.example.where, f"expected {reason.example.expected}", f"got      {reason.example.got}")
            body += [Text(f"  {line}", style="dim") for line in lines]
    title = Text(f" {verdict.judgement.upper()} ", style=style)
    return Panel(Group(*body), title=title, title_align="left", border_style=style, box=ROUNDED, width=width)


def acts_table(performance: Performance) -> Table:
    """Return a row for each act: what was done, what the verifier says, why."""
    table = Table(box=ROUNDED, show_lines=True, expand=True)
    for title, ratio in (("what was done", 9), ("the verifier says", 6), ("why", 12)):
        table.add_column(title, ratio=ratio)
    for number, played in enumerate(performance.acts, 1):
        says = Text(f"{played.verdict.judgement}", style=_STYLES[played.verdict.judgement])
        for reason in words.reasons(played.verdict):
            says.append(f"\n{reason.title}", style="red")
        if played.problem:
            says.append("\nnot as expected", style="bold reverse")
        table.add_row(Text(f"{number}. {played.act.done}"), says, Text(words.why(played.verdict, played.deed.result)))
    return table


def _table(*first: str) -> Table:
    table = Table(box=SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
    for name in first:
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("PCR", "container", "entry", "what it says"):
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if name == "what it says" else None)
    return table


def _cells(entry: DecodedEntry) -> tuple[Text, ...]:
    # As ``Text``: what an attested machine wrote must not be read as rich's markup.
    who = "host" if entry.container is None else entry.container
    return tuple(Text(cell) for cell in (f"{entry.pcr}", who, entry.kind, entry.says.replace("\n", " ")))


def _style(entry: DecodedEntry) -> str:
    if entry.container is None:
        return "dim"
    number = int(entry.container)
    return _CONTAINERS[(number - 1) % len(_CONTAINERS)]
