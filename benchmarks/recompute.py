# ruff: noqa: INP001, T201 - a program, not a package
"""Compute every number of a page again from a campaign's tables, and compare.

Usage: ``benchmarks/recompute.py [CAMPAIGN] [PAGE] [--all] [--write]``. Without names it reads ``results/reference`` and
``docs/overhead.md``.

It needs numpy, pandas (with pyarrow) and scipy, and nothing of the package ``testbed``: it was written from
docs/statistics.md and docs/data.md, so that an error in the package is not repeated here. ``recomputed/page.py`` says
how a page states its numbers.

Each number of the page is one of these:

- recomputed: the campaign gives the same, rounded as shown
- differs: it gives another number
- stated: the page says that it is a constant, or where else it comes from; if that is another page, it is there
- not covered: the page does not say what it is

Exit status: 0 if no number differs and each is covered; 1 otherwise.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recomputed import page as pages
from recomputed import samples as campaigns
from recomputed.claims import Claims, UnknownItem
from recomputed.grids import cells
from recomputed.page import Block, Shown, Table
from recomputed.prices import Prices

ROOT = Path(__file__).resolve().parents[1]
OUTCOMES = ("recomputed", "differs", "stated", "not covered")


@dataclass(frozen=True)
class Outcome:
    """What was found about one number: its line, its text, one of ``OUTCOMES``, and why.

    ``instead``: what must stand there, at ``start`` of the page; only of numbers in texts.
    """

    line: int
    text: str
    outcome: str
    why: str = ""
    start: int = 0
    instead: str = ""


def outcomes(page: str, claims: Claims) -> Iterator[Outcome]:
    """Yield what was found about each number of a page, in its order."""
    blocks, tables = pages.read(page)
    yield from _digest(page, claims)
    parts: list[Block | Table] = [*blocks, *tables]
    for part in sorted(parts, key=lambda part: part.line):
        yield from _of_table(part, claims) if isinstance(part, Table) else _of_text(part, claims)


def _digest(page: str, claims: Claims) -> Iterator[Outcome]:
    """Compare the digest that the page quotes: a page about an older campaign is noticed."""
    digest = campaigns.digest(claims.samples.directory)
    told = list(re.finditer(r"(?<=digest `)[0-9a-f]{12,64}(?=`)", page))
    for match in told:
        line = page.count("\n", 0, match.start()) + 1
        same = digest.startswith(match[0])
        yield Outcome(line, match[0], "recomputed" if same else "differs", "" if same else digest)
    if not told:
        yield Outcome(1, "", "not covered", f"the page does not quote the digest of the campaign, {digest}")


def _of_table(table: Table, claims: Claims) -> Iterator[Outcome]:
    try:
        for cell in cells(table, claims):
            yield Outcome(cell.line, cell.text, "differs" if cell.differs else "recomputed", cell.differs)
    except UnknownItem as error:
        yield Outcome(table.line, table.kind, "not covered", str(error))


def _of_text(block: Block, claims: Claims) -> Iterator[Outcome]:
    shown = block.numbers()
    if block.elsewhere:
        yield from (Outcome(number.line, number.text, "stated", block.elsewhere) for number in shown)
        return
    if len(block.items) > len(shown):
        extra = "; ".join(block.items[len(shown) :])
        yield Outcome(block.line, "", "not covered", f"more items than numbers: {extra}")
    for n, number in enumerate(shown):
        item = block.items[n] if n < len(block.items) else ""
        if not item:
            yield Outcome(number.line, number.text, "not covered", "no item in a comment says what it is")
        elif item.startswith("-"):
            yield Outcome(number.line, number.text, "stated", item.lstrip("- "))
        elif item.startswith("in "):
            yield _elsewhere(number, item.removeprefix("in "))
        else:
            yield _of_item(number, item, claims)


def _elsewhere(number: Shown, name: str) -> Outcome:
    """Look a number up in another page, which says where it comes from."""
    path = ROOT / "docs" / name
    if not path.is_file():
        return Outcome(number.line, number.text, "not covered", f"docs/{name}: no such page")
    there = {one.text.strip("+") for one in pages.numbers(path.read_text(encoding="utf-8"))}
    same = number.text.strip("+") in there
    why = f"in docs/{name}" if same else f"not in docs/{name}"
    return Outcome(number.line, number.text, "stated" if same else "differs", why)


def _of_item(number: Shown, item: str, claims: Claims) -> Outcome:
    try:
        same, ends = claims.computed(item, number)
    except UnknownItem as error:
        return Outcome(number.line, number.text, "not covered", str(error))
    if same:
        return Outcome(number.line, number.text, "recomputed", item)
    why = f"{item}: " + ", ".join(f"{end:.6g}" for end in ends)
    return Outcome(number.line, number.text, "differs", why, number.start, pages.rewritten(number, ends))


def corrected(page: str, found: list[Outcome]) -> str:
    """Return the page with the numbers of its texts as they were computed; tables are written by `make quoted`."""
    for one in sorted((one for one in found if one.instead), key=lambda one: -one.start):
        text = page[one.start :]
        old = re.match(re.sub(r"\\? ", r"\\s+", re.escape(one.text)), text)
        if old:
            page = page[: one.start] + one.instead + text[old.end() :]
    return page


def main() -> int:
    """Compare a page with a campaign; print what differs and how many numbers there are of each outcome."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("campaign", nargs="?", type=Path, default=ROOT / "results/reference")
    parser.add_argument("page", nargs="?", type=Path, default=ROOT / "docs/overhead.md")
    parser.add_argument(
        "--hosts", type=Path, default=ROOT / "results/reference-hosts", help="the campaigns of two hosts below it"
    )
    parser.add_argument("--all", action="store_true", help="also print what was recomputed or stated")
    parser.add_argument("--write", action="store_true", help="correct the numbers of the text; tables: `make quoted`")
    asked = parser.parse_args()
    samples = campaigns.Samples.read(asked.campaign)
    hosts = tuple(campaigns.Samples.read(path) for path in sorted(asked.hosts.glob("*/")))
    claims = Claims(samples=samples, prices=Prices(samples), hosts=hosts)
    found = list(outcomes(asked.page.read_text(encoding="utf-8"), claims))
    for one in found:
        if asked.all or one.outcome in ("differs", "not covered"):
            print(f"{asked.page}:{one.line}: {one.text}: {one.outcome}" + (f" ({one.why})" if one.why else ""))
    if asked.write:
        asked.page.write_text(corrected(asked.page.read_text(encoding="utf-8"), found), encoding="utf-8")
    counts = Counter(one.outcome for one in found)
    print(f"{asked.page}: " + ", ".join(f"{counts[name]} {name}" for name in OUTCOMES))
    return 1 if counts["differs"] or counts["not covered"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
