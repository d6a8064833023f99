"""The stored tables of samples and events against those that follow from the records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from testbed.analysis.recheck.step import RecheckStep
from testbed.analysis.tables import events, frames, stored
from testbed.rundir import LoadedCampaign

# Columns of events that the records alone give; the others come of the images too.
_COUNTED = (
    *("cell", "run", "kernel", "runtime", "measurer", "workload", "attack", "block", "iteration", "warmup"),
    *("starts", "extends", "launches", "counted_files", "counted_bytes"),
)


def recheck(loaded: LoadedCampaign, checks: pd.DataFrame | None) -> RecheckStep:
    """Compare ``rows.parquet`` and ``events.parquet`` with the tables that the records give.

    Raises ``EvidenceError`` for a table that is damaged.
    """
    problems: list[str] = []
    unchecked: list[str] = []
    compared = []
    path = loaded.campaign.path
    rows = stored.read(path, frames.FILE, frames.ROW_COLUMNS)
    if rows is None:
        problems.append(f"{frames.FILE}: no such file: `testbed report` makes it")
    else:
        problems += (f"{frames.FILE}: {words}" for words in differences(rows, frames.rows(loaded, checks)))
        compared.append(f"{len(rows)} samples")
    happened = events.written_table(loaded)
    if happened is None:
        problems.append(f"{events.FILE}: no such file: `testbed report` makes it")
    else:
        images = any(path.glob("images/*.oci.tar"))
        truth = events.truth_of(loaded.campaign) if images else events.nothing()
        made, columns = events.events(loaded, truth), events.COLUMNS if images else _COUNTED
        problems += (f"{events.FILE}: {words}" for words in differences(happened, made, columns))
        compared.append(f"{len(happened)} iterations")
        if not images:
            unchecked.append("the events that only the images know: their archives are not here")
    said = f"{' and '.join(compared) or 'nothing'} compared with what follows from the records"
    return RecheckStep(name="tables", said=said, problems=tuple(problems), unchecked=tuple(unchecked))


def differences(was: pd.DataFrame, made: pd.DataFrame, columns: Sequence[str] | None = None) -> Iterator[str]:
    """Yield how a stored table differs from the one that was made again, a line for each column."""
    names = list(columns or made.columns)
    if len(was) != len(made):
        yield f"{len(was)} rows, expected {len(made)}"
        return
    for name in names:
        one, other = (_values(table[name]) for table in (was, made))
        at = next((number for number, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]), None)
        if at is not None:
            count = sum(a != b for a, b in zip(one, other, strict=True))
            run = ascii(made["run"].iloc[at])
            yield (
                f"{name}: {count} values are not those of the records; the first is of run {run}: "
                f"the table has {one[at]!r}, the records give {other[at]!r}"
            )


def _values(column: pd.Series) -> list[object]:
    return [None if pd.isna(value) else value for value in column.astype(object)]
