"""The report's parts on runs and facts: what was not measured, what failed, and how to reproduce the campaign."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from typing import Any

import pandas as pd

from testbed.analysis import markdown
from testbed.analysis.differences import flat
from testbed.analysis.report.inputs import ReportInputs, verify_command
from testbed.record import Status
from testbed.record import unmeasured as unmeasured_counters

# At most this many runs without a record are named; the others are counted.
_LISTED = 20
_NAME = re.compile(r"[\w .,:/()+-]+", re.ASCII)


def unmeasured(material: ReportInputs) -> list[str]:
    """Say what the programs could not measure: where that is not 0, a missing entry proves nothing."""
    counted = [run for run in material.runs.to_dict("records") if run["counters"]]
    if not counted:
        return ["## Unmeasured events", "", "No run has counters: a measurer without programs counts nothing."]
    totals: dict[tuple[str, str, str], int] = {}
    for run in counted:
        for name, value in unmeasured_counters(run["counters"]).items():
            key = (str(run["measurer"]), str(run["workload"]), name)
            totals[key] = totals.get(key, 0) + value
    if not totals:
        return ["## Unmeasured events", "", f"None: every `unmeasured_*` counter of {len(counted)} runs is 0."]
    lines = ((*key, total) for key, total in sorted(totals.items()))
    return [
        "## Unmeasured events",
        "",
        *markdown.table(("measurer", "workload", "counter", "sum over runs"), lines),
        "",
        "Where one of these is not 0, a missing entry proves nothing.",
    ]


def failures(material: ReportInputs) -> list[str]:
    """List the runs that are not good, and their shares for each arm."""
    bad = material.runs[material.runs["status"] != str(Status.OK)]
    if bad.empty:
        return []
    # In a campaign that is still running most runs are missing; they would hide those that failed.
    listed = pd.concat([bad[bad["status"].notna()], bad[bad["status"].isna()].head(_LISTED)])
    shares = (
        (
            f"`{arm}`",
            len(of_arm),
            *(int((of_arm["status"] == str(status)).sum()) for status in Status),
            int(of_arm["status"].isna().sum()),
        )
        for arm, of_arm in material.runs.groupby("measurer")
    )
    lines = (
        (
            f"`{run['cell']}-{run['block']}`",
            f"`{run['measurer']}`",
            f"`{run['workload']}`",
            _status(run["status"]),
            markdown.code(run["reason"]),
        )
        for run in listed.to_dict("records")
    )
    unlisted = len(bad) - len(listed)
    rest = f"{unlisted} more have no record: `testbed run` continues where it stopped. Their shares are below."
    return [
        "## Runs that failed, were rejected or are missing",
        "",
        *markdown.table(("run", "measurer", "workload", "status", "reason"), lines),
        *(["", rest] if unlisted else []),
        "",
        *markdown.table(("measurer", "planned", *(str(status) for status in Status), "missing"), shares),
        "",
        "If the shares of the arms are unequal, a measurer itself causes failures.",
    ]


def _status(status: Any) -> str:
    return "missing" if pd.isna(status) else str(status)


def facts(material: ReportInputs) -> list[str]:
    """List the facts of the campaign, and the names of those that differ from run to run."""
    campaign_facts = dict(flat(material.facts))
    of_runs: dict[str, set[str]] = {}
    for told_by_run in material.runs["facts"]:
        for name, value in flat(told_by_run):
            of_runs.setdefault(name, set()).add(value)
    shared = {name: values.pop() for name, values in of_runs.items() if len(values) == 1 and name not in campaign_facts}
    both = sorted({**campaign_facts, **shared}.items())
    lines = ((_shown(name), markdown.code(value)) for name, value in both)
    varying = sorted(name for name, values in of_runs.items() if len(values) > 1)
    differ = [
        "",
        f"These differ from run to run (see each `record.json`): {', '.join(f'`{name}`' for name in varying)}.",
    ]
    return ["## Facts", "", *markdown.table(("fact", "value"), lines), *(differ if varying else [])]


def _shown(name: str) -> str:
    """Return a fact's name; one that is not of this project's form, as code, because somebody else wrote it."""
    return name if _NAME.fullmatch(name) else markdown.code(ascii(name))


def again(material: ReportInputs) -> list[str]:
    """Give the commands that made the campaign, and those that make the report and a verdict again."""
    commands = _commands(material)
    intro = "The campaign was made by this:" if len(commands) == 1 else "The campaign was made by these, in this order:"
    if not commands:
        intro = "This campaign does not record its command. It was probably made by this:"
    lines = ["## Reproducing this campaign", "", intro, ""]
    lines += ["```", *(commands or [_guess(material)]), "```"]
    lines += ["", "This report from what is on disk:", "", "```", f"testbed report {material.shown_path}", "```"]
    bundle = _one_bundle(material)
    if bundle:
        lines += ["", "One run's evidence by hand (each run's nonce is in its `record.json`, `facts.nonce`):", ""]
        lines += ["```", bundle, "```"]
    return lines


def _commands(material: ReportInputs) -> list[str]:
    """Return each command line that made runs, the first one first: `campaign.json` has that, the records have all."""
    runs = [run["record"] for run in material.runs.to_dict("records") if run["record"] is not None]
    made = [record.made_by.command for record in sorted(runs, key=lambda run: run.started_utc) if record.made_by]
    first = material.facts.get("command")
    commands = [*([tuple(map(str, first))] if first else []), *made]
    return [" ".join(map(_quoted, command)) for command in dict.fromkeys(commands) if command]


def _quoted(word: str) -> str:
    """Quote a word for a shell, but for the `~` that stands for a home directory."""
    home = "~/" if word.startswith("~/") else ""
    return home + shlex.quote(word[len(home) :])


def _guess(material: ReportInputs) -> str:
    wish = material.facts.get("experiment") or {}
    name = wish.get("name") or material.tables.plan.campaign.split("-")[0]
    return f"testbed run experiments/{name}.toml --tier {material.tables.plan.tier}"


def mixed_code(material: ReportInputs) -> list[str]:
    """Return what to doubt if several states of the code made the runs: a difference between arms can be theirs."""
    made = [run["record"].made_by for run in material.runs.to_dict("records") if run["record"] is not None]
    count = Counter(by.sources if by else None for by in made)
    if len(count) < 2:
        return []
    states = ", ".join(f"{_state(sources)}: {runs} runs" for sources, runs in count.most_common())
    return [f"The runs were made by {len(count)} different states of the code ({states}): compare them with care."]


def _state(sources: str | None) -> str:
    return f"sources `{sources[:12]}`" if sources else "unknown code"


def _one_bundle(material: ReportInputs) -> str | None:
    """Return the command that verifies the evidence of the last good run that has any."""
    good = material.runs[material.runs["status"] == str(Status.OK)]
    for run in reversed(good.to_dict("records")):
        line = verify_command(material.shown_path, run["path"], run["record"])
        if line:
            # A line break in it would leave the block of code.
            return line if line.isprintable() else None
    return None
