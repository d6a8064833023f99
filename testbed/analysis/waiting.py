"""Extends, and the time in which nothing was computed. Of an emulated TPM: never the latency of a hardware one.

An extend is counted. What it takes is not known here: under icount a software TPM answers in the host's real time, and
on any host it is not the chip that a reader has. So elapsed less CPU time stands apart, as what it is, and a reader's
own latency times the extends is a *model*.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from testbed.analysis import frames, markdown, words
from testbed.analysis.ladder import STRATUM, Question, climb

COLUMNS = (*STRATUM, "measurer", "extends", "wait", "base_wait")

_WHAT = (
    "Waiting is elapsed less CPU time, by the guest's clock: for a software TPM and the disk, and under icount in the "
    "host's real time. **It is not the latency of a hardware TPM** and is in no number of the other sections."
)


def waiting(rows: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return one row a (kernel, runtime, workload, arm): medians over the timed iterations of runs that count.

    ``extends``: entries that the log grew by, an iteration; ``wait``: elapsed less CPU time, guest seconds;
    ``base_wait``: that of the baseline.
    """
    good = frames.counted(rows[(rows["attack"] == "none") & ~rows["warmup"].fillna(value=True).astype(bool)])
    wanted = good[good["metric"].isin(("cpu", "elapsed", "log_entries"))]
    key = [*STRATUM, "measurer", "block", "iteration"]
    wide = wanted.pivot_table(index=key, columns="metric", values="value").reset_index()
    if wide.empty or not {"cpu", "elapsed", "log_entries"} <= set(wide.columns):
        return pd.DataFrame(columns=list(COLUMNS))
    wide = wide.assign(wait=wide["elapsed"] - wide["cpu"], extends=wide["log_entries"])
    table = wide.groupby([*STRATUM, "measurer"])[["extends", "wait"]].median().reset_index()
    base = table.loc[table["measurer"] == question.baseline, [*STRATUM, "wait"]]
    joined = table.merge(base.rename(columns={"wait": "base_wait"}), on=list(STRATUM), how="left")
    order = joined["measurer"].map(lambda arm: climb(str(arm))[0])
    return joined.assign(order=order).sort_values([*STRATUM, "order"])[list(COLUMNS)].reset_index(drop=True)


def section(table: pd.DataFrame, tpm_ms: float | None) -> list[str]:
    """Return the lines on extends and waiting. ``tpm_ms``: what a reader says an extend takes, milliseconds."""
    if table.empty:
        return []
    shown = table[(table["extends"] > 0) | (table["wait"] > 0)]
    header = ["workload", "measurer", "extends an iteration", "waiting", "more than the baseline"]
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
        lines.append(
            "With `testbed report --tpm-ms 7` a model stands beside it: extends times the latency of your TPM."
        )
    else:
        lines.append(
            f"The last column is a **model**, not a measurement: every extend waits {tpm_ms:g} ms, one after the other."
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
