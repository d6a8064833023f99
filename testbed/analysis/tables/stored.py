"""Tables on disk: written whole, and read with an error that names the file.

All tables can be made again from a campaign's raw runs. A reference data set has only a part of the evidence, so the
tables that follow from all of it are kept there and cannot be made again.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from testbed import files
from testbed.errors import EvidenceError

# The file that a reference data set has and other campaigns do not (``analysis.reference``).
MARK = "reference.json"
AGAIN = "remove it, and `testbed report` makes it again; take that of a reference data set from where it came from"


def is_reference(campaign: Path) -> bool:
    """Whether a campaign's directory is a reference data set, which has only a part of the evidence."""
    return (campaign / MARK).exists()


def read(campaign: Path, name: str, columns: Collection[str], schema: pa.Schema | None = None) -> pd.DataFrame | None:
    """Return a table of a campaign's directory, which must have ``columns``; ``None`` if it was not written yet.

    ``schema``: the types that they must have. Raises ``EvidenceError`` if it is damaged, or if it is missing where it
    cannot be made again.
    """
    path = campaign / name
    try:
        # Not by its path: pyarrow takes none that is not UTF-8.
        with files.open_plain(path) as file:
            table = pd.read_parquet(file)
    except FileNotFoundError:
        if is_reference(campaign):
            raise EvidenceError(
                f"{path}: no such file; it cannot be made again, as a reference data set has not all evidence",
                "take the file from where the data set came from: `git restore` for that of the repository",
            ) from None
        return None
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(path, str(error)) from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise _damaged(path, f"expected columns {', '.join(columns)}, no {', '.join(missing)}")
    if schema is not None:
        _check(table, schema, path)
    return table


def _check(table: pd.DataFrame, schema: pa.Schema, path: Path) -> None:
    try:
        pa.Table.from_pandas(table, schema=schema, preserve_index=False)
    except pa.ArrowException as error:
        raise _damaged(path, str(error)) from error
    for field in schema:
        if pa.types.is_list(field.type) and table[field.name].isna().any():
            raise _damaged(path, f"expected a list in each row of column {field.name}, got none")


def write(table: pd.DataFrame, path: Path, schema: pa.Schema | None = None) -> None:
    """Write a table, whole or not at all. ``schema``: needed where a column of lists may have empty ones alone."""
    packed = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False), packed)
    files.write_plain(path, packed.getvalue())


def _damaged(path: Path, why: str) -> EvidenceError:
    return EvidenceError(f"{path}: not a table that can be used: {why}", AGAIN)
