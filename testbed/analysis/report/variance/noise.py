"""How far two runs of one arm differ, for each arm that ran twice: the noise under its effect."""

from __future__ import annotations

from testbed.analysis import markdown, words
from testbed.analysis.tables.ladder import STRATUM, climb
from testbed.analysis.tables.tables import Tables


def section(tables: Tables) -> list[str]:
    """Return the lines on the A/A of treated arms; nothing where only the baseline ran twice."""
    table, question = tables.noise, tables.question
    arms = sorted({str(arm) for arm in table["arm"]} - {question.baseline}, key=climb)
    if not arms:
        return []
    rows = []
    for key, group in table.groupby(list(STRATUM)):
        known = {row["arm"]: words.bounds(row["low"], row["high"]) for row in group.to_dict("records")}
        where = dict(zip(STRATUM, key, strict=True))
        rows.append([f"`{where['workload']}`", *(known.get(arm, "") for arm in (question.baseline, *arms))])
    single = sorted({str(arm) for arm in tables.ladder["treatment"]} - {*arms}, key=climb)
    said = [
        "The A/A of each arm that ran twice, 95 % interval in %:",
        "",
        *markdown.table(("workload", *(f"`{arm}`" for arm in (question.baseline, *arms))), rows),
        "",
        "The floor of an arm is the wider of its own A/A and that of the baseline.",
    ]
    if single:
        said.append(
            f"{', '.join(f'`{arm}`' for arm in single)} ran once: the floor is the widest A/A of that workload."
        )
    return [*said, ""]
