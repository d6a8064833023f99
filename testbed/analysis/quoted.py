"""What pages of the documentation quote of a campaign: its tables, and the digest of its data.

::

    <!-- table: overhead cpu -->   up to <!-- end --> a table of the campaign is written here

Tables: ``overhead METRIC``, ``cost METRIC`` (instructions of one operation), ``prices``, ``parts``, ``hosts`` (the
counts of two hosts, from ``reference-hosts``). A page also quotes the digest of the campaign's data, so that a page
about an older campaign is noticed. ``python -m testbed.analysis.quoted CAMPAIGN PAGE...`` writes both into pages;
``benchmarks/recompute.py`` checks the numbers of their text.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from testbed import files
from testbed.analysis import hosts, markdown, words
from testbed.analysis.report import absolute, event_costs, overhead
from testbed.analysis.tables import events, frames, metrics, tables, worst_check
from testbed.analysis.tables.ladder import STRATUM, climb
from testbed.analysis.tables.stored import MARK
from testbed.analysis.tables.tables import Tables
from testbed.errors import SpecError
from testbed.rundir import Campaign, load

# Beside the reference data: two campaigns of the same cells, on two hosts.
HOSTS = "reference-hosts"
# A campaign's data. A report and its figures follow from it, so they are not in its digest.
_DATA = ("campaign.json", "plan.json", MARK, frames.FILE, events.FILE, worst_check.FILE, "blocks/**/*", "runs/**/*")
_MARKED = re.compile(r"(<!-- table: (\w+)((?: \w+)*) -->\n).*?(<!-- end -->)", re.DOTALL)
# Whole, or its first digits where space is short.
_DIGEST = re.compile(r"(?<=digest `)[0-9a-f]{12,64}(?=`)")
_SHORT = {"instructions": "instr."}


def digest(campaign: Path) -> str:
    """Return the SHA-256 of what ``sha256sum`` prints of the files of a campaign's data, sorted by their names."""
    found = {path for pattern in _DATA for path in campaign.glob(pattern) if path.is_file()}
    listed = sorted((path.relative_to(campaign).as_posix(), path) for path in found)
    lines = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in listed)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def quoted(page: str, known: Tables, digest_of_data: str, others: Mapping[str, list[str]] | None = None) -> str:
    """Return a page with the campaign's tables between its markers, and the digest where it quotes one.

    ``others``: further tables by what their markers name. Raises ``SpecError`` for a table that does not exist.
    """
    made = others or {}

    def written(match: re.Match[str]) -> str:
        lines = made.get(f"{match[2]}{match[3]}") or table(match[2], match[3].split(), known)
        return "\n".join((match[1].rstrip("\n"), *lines, match[4]))

    return _DIGEST.sub(lambda match: digest_of_data[: len(match[0])], _MARKED.sub(written, page))


def table(kind: str, arguments: Sequence[str], known: Tables) -> list[str]:
    """Return the lines of a table of a campaign. Raises ``SpecError`` if it has no such table."""
    make = _KINDS.get(kind)
    lines = make(known, *arguments) if make else []
    if not lines:
        named = " ".join((kind, *arguments))
        kinds = ", ".join(_KINDS)
        hint = f"name one of {kinds} that the campaign has; overhead and cost take the name of a metric"
        raise SpecError(f"table {named!r}: expected a table of {known.plan.campaign}, got none", hint)
    return lines


def _overhead(known: Tables, metric: str = metrics.PRIMARY) -> list[str]:
    reading = metrics.reading(metric, known.question.tier)
    lines = overhead.section(known, {})
    title = f"**{reading.label}**" if reading else "-"
    start = next((n for n, line in enumerate(lines) if line.startswith(title)), len(lines))
    return list(_first(lines[start:], "| workload |"))


def _cost(known: Tables, metric: str = metrics.PRIMARY) -> list[str]:
    """Show what one operation costs, and beside it what it costs without a measurer."""
    ladder = known.ladders.get(metric, pd.DataFrame())
    if ladder.empty:
        return []
    arms = sorted(set(ladder["treatment"]), key=climb)
    rows = []
    for key, group in ladder.groupby(list(STRATUM)):
        workload = str(key[STRATUM.index("workload")])
        extra = [str(value) for name, value in zip(STRATUM, key, strict=True) if len(set(ladder[name])) > 1]
        name = f"`{workload}`" + (f" ({', '.join(extra[:-1])})" if len(extra) > 1 else "")
        first = group.iloc[0]
        unit = _SHORT.get(first["unit"], first["unit"])
        costs = {
            row["treatment"]: words.amount(row["cost"], row["cost_low"], row["cost_high"], unit)
            for row in group.to_dict("records")
        }
        operation, base = metrics.operation_of(workload), words.size(first["base"], unit)
        rows.append((name, operation, base, *(costs.get(arm, "") for arm in arms)))
    return markdown.table(("workload", "of one", "without", *(f"`{arm}`" for arm in arms)), rows)


def _prices(known: Tables) -> list[str]:
    return list(_first(event_costs.section(known, {}), "| step of the ladder |"))


def _parts(known: Tables) -> list[str]:
    return list(_first(event_costs.section(known, {}), "| workload | added |"))


def _operations(known: Tables) -> list[str]:
    return list(_first(absolute.lines(known), "| operation |"))


_KINDS: Mapping[str, Callable[..., list[str]]] = {
    "operations": _operations,
    "overhead": _overhead,
    "cost": _cost,
    "prices": _prices,
    "parts": _parts,
}


def _first(lines: Sequence[str], head: str) -> Iterator[str]:
    """Yield the first table whose header begins so."""
    start = next((n for n, line in enumerate(lines) if line.startswith(head)), len(lines))
    for line in lines[start:]:
        if not line.startswith("|"):
            return
        yield line


def beside(campaign: Path) -> dict[str, list[str]]:
    """Return the tables of the campaigns of two hosts that lie beside this one; none if they do not."""
    two = [load(Campaign(path=path)) for path in sorted((campaign.parent / HOSTS).glob("*/"))]
    return {"hosts": hosts.table(hosts.compare(two))} if two else {}


def main() -> None:
    """Write what the pages quote of a campaign: ``CAMPAIGN PAGE...``."""
    campaign, *pages = map(Path, sys.argv[1:])
    known, whole, others = tables.read(load(Campaign(path=campaign))), digest(campaign), beside(campaign)
    for page in pages:
        text = quoted(page.read_text(encoding="utf-8"), known, whole, others)
        files.write_plain(page, text.encode())
        sys.stdout.write(f"{page}: {whole}\n")


if __name__ == "__main__":
    main()
