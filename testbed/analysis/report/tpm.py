"""The report's part on the TPM: extends, and waiting (``tables.waiting``)."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from testbed.analysis import markdown, words

_WHAT = (
    "Waiting is elapsed time less CPU time, by the guest's clock. It is the waiting for a software TPM and the disk, "
    "under icount in the host's real time. **It is not the latency of a hardware TPM**. No other section contains it."
)


def section(table: pd.DataFrame, tpm_ms: float | None) -> list[str]:
    """Return the lines on extends and waiting. ``tpm_ms``: the reader's latency of an extend, in milliseconds."""
    if table.empty:
        return []
    shown = table[(table["extends"] > 0) | (table["wait"] > 0)]
    header = ["workload", "measurer", "extends per iteration", "waiting", "more than the baseline"]
    header += [f"MODEL: extends x {tpm_ms:g} ms"] if tpm_ms is not None else []
    lines = [
        "## TPM: extends, and waiting",
        "",
        _WHAT,
        "",
        *markdown.table(header, _lines(shown, tpm_ms)),
        "",
    ]
    if tpm_ms is None:
        lines.append("`testbed report --tpm-ms 7` adds a model: the number of extends times the latency of your TPM.")
    else:
        lines.append(
            f"The last column is a **model**, not a measurement: each extend waits {tpm_ms:g} ms, one after the other."
        )
    return lines


def _lines(table: pd.DataFrame, tpm_ms: float | None) -> Iterator[list[str]]:
    for row in table.to_dict("records"):
        more = row["wait"] - row["base_wait"]
        yield [
            f"`{row['workload']}`",
            f"`{row['measurer']}`",
            f"{row['extends']:g}",
            f"{1e3 * row['wait']:.3g} ms",
            "" if pd.isna(more) else f"{words.signed(1e3 * more, 1)} ms",
            *([words.size(1e-3 * tpm_ms * row["extends"], "s")] if tpm_ms is not None else []),
        ]
