"""Every figure of a campaign by its name: from tables to pictures, and to files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from testbed import progress
from testbed.analysis import figures
from testbed.analysis.figures import Caption
from testbed.analysis.figures.canvas import blocks
from testbed.analysis.models import runlength
from testbed.analysis.tables import spread
from testbed.analysis.tables.ladder import STRATUM
from testbed.analysis.tables.tables import Tables

# More workloads than this share one figure with a column per arm.
_FEW = 3
_SCATTER = 2
UNJUDGED = "The runs were not judged, so every good run counts. `testbed report` judges them."


def overhead(tables: Tables) -> Figure | None:
    """Draw overhead by workload and arm, with the noise of each."""
    table = _once(tables.ladder)
    if table.empty:
        return None
    if len(table.drop_duplicates(list(STRATUM))) <= _FEW:
        return figures.rungs(table, caption(tables))
    running = tables.ladders.get(runlength.RUNNING)
    return figures.grid(table, None if running is None else _once(running), caption(tables))


def every_block(tables: Tables) -> Figure | None:
    """Draw every block: how much each arm scatters, beside the A/A."""
    # One block has no scatter.
    if tables.spread["block"].nunique() < _SCATTER:
        return None
    return figures.dots(tables.spread, tables.question.delta, caption(tables))


def length(tables: Tables) -> Figure | None:
    """Draw overhead against the length of a run; nothing where no running state was counted."""
    table = tables.lengths
    return figures.length(_once(table), caption(tables)) if (table["base"] > 0).any() else None


def byte_price(tables: Tables) -> Figure | None:
    """Draw overhead against the price of a hashed byte."""
    return None if tables.byte_prices.empty else figures.byteprice(tables.byte_prices, caption(tables))


def _once(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out arms that repeat another one: they are there for the noise."""
    arms = set(table["treatment"])
    return table[[spread.twin_of(arm, arms) is None for arm in table["treatment"]]]


def stack(tables: Tables) -> Figure | None:
    """Draw where the added instructions go; nothing where no event has a price."""
    priced = "fitted" in set(tables.parts["how"])
    return figures.stack(tables.parts, _n(tables), caption(tables)) if priced else None


def starts(tables: Tables) -> Figure | None:
    """Draw the cost of a container's start, by arm."""
    return None if tables.starts.empty else figures.starts(tables.starts, caption(tables))


def scaling(tables: Tables) -> Figure | None:
    """Draw how cost grows with a number."""
    return None if tables.scaling.empty else figures.scaling(tables.scaling, caption(tables))


def sizes(tables: Tables) -> Figure | None:
    """Draw each program's cost over its size."""
    if tables.sizes.empty:
        return None
    return figures.sizes(tables.sizes, tables.size_lines, tables.question.duplicate, caption(tables))


def model(tables: Tables) -> Figure | None:
    """Draw the cost model's predictions for workloads that were not fitted."""
    return None if tables.predictions.empty else figures.model(tables.predictions, _n(tables), caption(tables))


# By the name of the file; in the order of a report.
FIGURES: Mapping[str, Callable[[Tables], Figure | None]] = {
    "overhead": overhead,
    "blocks": every_block,
    "run-length": length,
    "ladder-stack": stack,
    "byte-price": byte_price,
    "cost-model": model,
    "starts": starts,
    "scaling": scaling,
    "sizes": sizes,
}


def drawn(tables: Tables) -> dict[str, Figure]:
    """Draw every figure that has something to show; return them by name."""
    made = ((name, draw(tables)) for name, draw in progress.each(FIGURES.items(), "figures"))
    return {name: figure for name, figure in made if figure is not None}


def write(tables: Tables, directory: Path) -> dict[str, tuple[Path, ...]]:
    """Write every figure that has something to show; return their files by name."""
    return save(drawn(tables), directory)


def save(made: Mapping[str, Figure], directory: Path) -> dict[str, tuple[Path, ...]]:
    """Write figures that were drawn; return their files by name."""
    return {name: figures.write(figure, directory, name) for name, figure in made.items()}


def caption(tables: Tables) -> Caption:
    """Return whose numbers these are, and the notes that belong to them."""
    unjudged = bool(tables.rows["oracle"].isna().all())
    return Caption(campaign=tables.plan.campaign, tier=tables.plan.tier, notes=(UNJUDGED,) if unjudged else ())


def _n(tables: Tables) -> str:
    return blocks(tables.ladder["n"])
