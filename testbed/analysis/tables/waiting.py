"""Extends, and the time in which nothing was computed (``report.tpm`` says it). Never the latency of a hardware TPM.

Extends are counted. How long one takes is not known here: under icount a software TPM answers in the host's real time,
and on no host is it the reader's chip. So elapsed less CPU time is a table of its own, and the reader's latency times
the number of extends is a *model*.
"""

from __future__ import annotations

import pandas as pd

from testbed.analysis.tables import frames
from testbed.analysis.tables.ladder import STRATUM, Question, climb

COLUMNS = (*STRATUM, "measurer", "extends", "wait", "base_wait")


def waiting(rows: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, arm): medians over the timed iterations of runs that count.

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
