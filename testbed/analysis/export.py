"""All tables of a campaign as flat files, as the dictionary documents them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from testbed import progress
from testbed.analysis.dictionary import page
from testbed.analysis.judged import checks
from testbed.analysis.tables import costmodel, events, frames, stored, tables, worst_check
from testbed.analysis.tables.costmodel import Fit
from testbed.analysis.tables.ladder import STRATUM
from testbed.analysis.tables.tables import Tables
from testbed.errors import SpecError
from testbed.files import write_plain
from testbed.rundir import LoadedCampaign

DICTIONARY = "dictionary.csv"
_AXES = ("kernel", "runtime", "measurer", "workload", "attack")
_RUN = ("cell", "run", *_AXES, "block")


def flat(loaded: LoadedCampaign) -> dict[str, pd.DataFrame]:
    """Return every table of the dictionary by its name, with its columns in their order. Nothing is judged.

    ``checks`` is empty if ``testbed report`` has not judged the campaign. Raises as ``tables.read`` does.
    """
    judged = stored.read(loaded.campaign.path, worst_check.FILE, checks.SCHEMA.names, checks.SCHEMA)
    known = tables.read(loaded, judged)
    made = {
        "rows": known.rows,
        "runs": _runs(loaded),
        "counters": _counters(loaded),
        "checks": pd.DataFrame(columns=checks.SCHEMA.names) if judged is None else judged,
        "events": known.events,
        "contrasts": pd.concat(known.ladders.values(), ignore_index=True) if known.ladders else pd.DataFrame(),
        "overall": known.overall,
        "methods": known.methods,
        "observations": _observations(known),
        "prices": _prices(known.fits),
        "predictions": known.predictions,
        "parts": known.parts,
        "starts": known.starts,
        "scaling": known.scaling,
        "sizes": known.sizes,
        "size_lines": known.size_lines,
        "waiting": known.waiting,
        "builds": known.builds,
        "noise": known.noise,
        "checked": known.checked,
        "lengths": known.lengths,
        "byte_prices": known.byte_prices,
        "spread": known.spread,
    }
    return {table.name: _ordered(made[table.name], table.names) for table in page.TABLES}


def write(made: Mapping[str, pd.DataFrame], directory: Path, form: str) -> list[Path]:
    """Write tables and the dictionary into a directory, which is made; ``form``: ``csv`` or ``parquet``.

    Raises ``SpecError`` if the directory's place is taken by a file.
    """
    if directory.exists() and not directory.is_dir():
        raise SpecError(f"{directory}: expected a directory, or nothing yet, got a file", "name another directory")
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in progress.each(made.items(), "export", unit="tables"):
        path = directory / f"{name}.{form}"
        _WRITERS[form](table, path)
        written.append(path)
    path = directory / DICTIONARY
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(page.rows())
    write_plain(path, text.getvalue().encode())
    return [*written, path]


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    lists = {str(name): table[name].map(_as_json) for name in table if _has_lists(table[name])}
    write_plain(path, table.assign(**lists).to_csv(index=False, lineterminator="\n").encode(errors="backslashreplace"))


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    stored.write(table, path, checks.SCHEMA if list(table) == checks.SCHEMA.names else None)


_WRITERS: Mapping[str, Callable[[pd.DataFrame, Path], None]] = {"csv": _write_csv, "parquet": _write_parquet}
FORMS = tuple(_WRITERS)


def _has_lists(column: pd.Series[Any]) -> bool:
    return any(hasattr(value, "__iter__") and not isinstance(value, str) for value in column)


def _as_json(value: Any) -> str:
    return json.dumps(value.tolist() if hasattr(value, "tolist") else value, default=_plain)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _ordered(table: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Return a table with the documented columns first; one that is not documented stays, and a test finds it."""
    if table.empty and not len(table.columns):
        return pd.DataFrame(columns=list(names))
    return table[[*(name for name in names if name in table), *(name for name in table if name not in names)]]


def _runs(loaded: LoadedCampaign) -> pd.DataFrame:
    runs = frames.runs(loaded)
    recorded = [
        {"started_utc": None, "seconds": None, "containers": None}
        if record is None
        else {"started_utc": record.started_utc, "seconds": record.seconds, "containers": len(record.containers)}
        for record in runs["record"]
    ]
    more = pd.DataFrame(recorded, index=runs.index).astype({"seconds": "float64", "containers": "Int64"})
    named = runs.assign(run=[path.name for path in runs["path"]])
    return pd.concat([named[[*_RUN, "build", "status", "reason", "attempt"]], more], axis=1)


def _counters(loaded: LoadedCampaign) -> pd.DataFrame:
    cells = loaded.cells
    listed = [
        {"cell": record.cell_id, "run": path.name, **{axis: getattr(cells[record.cell_id], axis) for axis in _AXES}}
        | {"block": record.block, "counter": name, "value": value}
        for path, record in loaded.current
        if record.cell_id in cells
        for name, value in record.counters.items()
    ]
    return pd.DataFrame(listed, columns=[*_RUN, "counter", "value"])


def _observations(known: Tables) -> pd.DataFrame:
    unit, arms = costmodel.unit_of(known.question.tier), {step.name: step.arm for step in costmodel.steps()}
    columns = ["step", "arm", "over", *STRATUM, "block", "added", "below", "cold", "unit"]
    listed = [table.assign(step=name, arm=arms[name], unit=unit) for name, table in known.observed.items()]
    every = pd.concat(listed, ignore_index=True) if listed else pd.DataFrame(columns=columns)
    counts = [name for name in (*events.COUNTS, *events.TREE, *events.LATER) if name != "starts"]
    return every.reindex(columns=[*columns, *counts])


def _prices(fits: tuple[Fit, ...]) -> pd.DataFrame:
    columns = ["kernel", "step", "event", "price", "low", "high", "n", "given_up", "workloads", "unit"]
    listed = [row for fit in fits for row in _of_fit(fit)]
    return pd.DataFrame(listed, columns=columns).astype({"price": "float64", "n": "Int64"})


def _of_fit(fit: Fit) -> Iterator[dict[str, Any]]:
    for event in (*fit.prices, *fit.taken, *fit.given_up):
        price = fit.prices.get(event)
        bounds = price.interval if price else None
        yield {
            "kernel": fit.kernel,
            "step": fit.step.name,
            "event": event,
            "price": price.center if price else None,
            "low": bounds.low if bounds else None,
            "high": bounds.high if bounds else None,
            "n": price.n if price else None,
            "given_up": fit.given_up.get(event) or ("another step has its price" if event in fit.taken else ""),
            "workloads": ", ".join(fit.workloads),
            "unit": fit.unit,
        }
