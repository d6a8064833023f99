"""A campaign's report: tables in, Markdown out. The first line says in plain words what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from testbed.analysis import attacked, checks, correctness, figures, frames, judging, ladder, markdown, metrics, pricing
from testbed.analysis.attacked import Attacked
from testbed.analysis.checks import Judge
from testbed.analysis.ladder import Question
from testbed.plan import Plan
from testbed.record import Status
from testbed.rundir import Campaign, read_facts, read_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A report that was written at ``report``: its first line, and the exit status that says the same to a program."""

    summary: str
    report: Path
    exit_status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """All that a report tells: the plan, ``campaign.json``, the question, and the tables of ``analysis``.

    ``rows`` of ``frames.rows``, ``runs`` of ``frames.runs``, ``checks`` of ``checks.checks``; ``ladders`` by metric.
    ``attacked``: what the verifier said of forgeries of this campaign's evidence.
    ``shown_path``: how the campaign's directory is written in commands; ``figures``: paths relative to it.
    """

    plan: Plan
    facts: Mapping[str, Any]
    question: Question
    rows: pd.DataFrame
    runs: pd.DataFrame
    checks: pd.DataFrame
    ladders: Mapping[str, pd.DataFrame]
    shown_path: str
    attacked: tuple[Attacked, ...] = ()
    figures: tuple[str, ...] = ()


def write(campaign: Campaign, judge: Judge | None = None) -> Written:
    """Write everything that follows from a campaign's raw runs: both tables, the figures, ``report.md``.

    Raises ``EvidenceError`` for a record that is malformed, ``IncompatibleRuns`` for records that must not be pooled.
    """
    material = gather(campaign, judge or judging.judge_of(campaign))
    frames.write_parquet(material.rows, campaign.path / "rows.parquet")
    checks.write_parquet(material.checks, campaign.path / "checks.parquet")
    drawn = draw(campaign, material.plan, material.ladders)
    text = render(dataclasses.replace(material, figures=tuple(str(path.relative_to(campaign.path)) for path in drawn)))
    path = campaign.path / "report.md"
    spare = path.with_name(f".part-{path.name}")
    spare.write_text(text, encoding="utf-8")
    spare.rename(path)
    outcome = correctness.outcome(material.runs, material.checks)
    status = outcome.exit_status or int(not all(one.ok for one in material.attacked))
    return Written(summary=text.splitlines()[0].removeprefix("# "), report=path, exit_status=status)


def gather(campaign: Campaign, judge: Judge) -> Material:
    """Read a campaign and compute all tables of its report."""
    plan, facts = read_plan(campaign), read_facts(campaign)
    judged = checks.checks(campaign, judge)
    rows, runs, question = frames.rows(campaign, judged), frames.runs(campaign), Question.of(plan.tier, facts)
    return Material(
        plan=plan,
        facts=facts,
        question=question,
        rows=rows,
        runs=runs,
        checks=judged,
        ladders=ladders(rows, question),
        shown_path=str(campaign.path),
        attacked=attacked.attack(campaign, runs),
    )


def ladders(rows: pd.DataFrame, question: Question) -> dict[str, pd.DataFrame]:
    """Return the ladder of each metric that means something on the tier and that was measured."""
    measured = set(rows["metric"].dropna())
    wanted = (metric for metric in metrics.readable(question.tier) if metric in measured)
    return {metric: ladder.ladder(rows, question, metric) for metric in wanted}


def draw(campaign: Campaign, plan: Plan, tables: Mapping[str, pd.DataFrame]) -> tuple[Path, ...]:
    """Write the figures, or none if there is no overhead to show."""
    table = tables.get(metrics.PRIMARY)
    if table is None or table.empty:
        return ()
    figure = figures.overhead(table, figures.Caption(campaign=plan.campaign, tier=plan.tier))
    return figures.write(figure, campaign.path / "figures", "overhead")


def render(material: Material) -> str:
    """Return the report as Markdown."""
    parts = [_head(material), *(section(material) for section in _SECTIONS)]
    return "\n".join(line for part in parts if part for line in (*part, "")).rstrip() + "\n"


def _head(material: Material) -> list[str]:
    outcome = correctness.outcome(material.runs, material.checks)
    wish = material.facts.get("experiment") or {}
    question = f" Question: {wish['question']}" if wish.get("question") else ""
    return [
        f"# {outcome.words}; tier {material.plan.tier}",
        "",
        f"Campaign `{material.plan.campaign}`: {_planned(material)}.{question}",
    ]


def _planned(material: Material) -> str:
    blocks = len({block.index for block in material.plan.blocks})
    good = int((material.runs["status"] == str(Status.OK)).sum())
    return f"{len(material.plan.cells)} cells in {blocks} blocks, {good} of {len(material.runs)} planned runs are good"


def _overhead(material: Material) -> list[str]:
    return pricing.section(material.ladders, material.question, material.rows, material.figures)


def _correctness(material: Material) -> list[str]:
    return correctness.section(material.checks)


def _attacked(material: Material) -> list[str]:
    return attacked.section(material.attacked)


def _unmeasured(material: Material) -> list[str]:
    """Say what the programs themselves could not measure: where that is not 0, a missing entry proves nothing."""
    counted = [run for run in material.runs.to_dict("records") if run["counters"]]
    if not counted:
        return ["## Unmeasured events", "", "No run collected counters (a measurer without programs has none)."]
    totals: dict[tuple[str, str, str], int] = {}
    for run in counted:
        for name, value in run["counters"].items():
            if name.startswith("unmeasured_") and value:
                key = (str(run["measurer"]), str(run["workload"]), str(name))
                totals[key] = totals.get(key, 0) + int(value)
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


def _doubts(material: Material) -> list[str]:
    lines = [
        *pricing.doubts(material.ladders, material.question),
        *correctness.doubts(material.runs, material.checks),
        *attacked.doubts(material.attacked),
    ]
    return ["## Doubts", "", *markdown.bullets(lines)]


def _failures(material: Material) -> list[str]:
    bad = material.runs[material.runs["status"] != str(Status.OK)]
    if bad.empty:
        return []
    shares = (
        (f"`{arm}`", len(of_arm), *(int((of_arm["status"] == str(status)).sum()) for status in Status))
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
        for run in bad.to_dict("records")
    )
    return [
        "## Runs that failed, were rejected or are missing",
        "",
        *markdown.table(("run", "measurer", "workload", "status", "reason"), lines),
        "",
        *markdown.table(("measurer", "planned", *(str(status) for status in Status)), shares),
        "",
        "Unequal shares among arms mean that a measurer itself makes trouble: a finding, not bad luck.",
    ]


def _status(status: Any) -> str:
    return "missing" if pd.isna(status) else str(status)


def _facts(material: Material) -> list[str]:
    told = dict(_flat(material.facts))
    of_runs: dict[str, set[str]] = {}
    for facts in material.runs["facts"]:
        for name, value in _flat(facts):
            of_runs.setdefault(name, set()).add(value)
    shared = {name: values.pop() for name, values in of_runs.items() if len(values) == 1 and name not in told}
    both = sorted({**told, **shared}.items())
    lines = ((name, markdown.code(value)) for name, value in both)
    varying = sorted(name for name, values in of_runs.items() if len(values) > 1)
    differ = [
        "",
        f"Differ from run to run (see each `record.json`): {', '.join(f'`{name}`' for name in varying)}.",
    ]
    return ["## Facts", "", *markdown.table(("fact", "value"), lines), *(differ if varying else [])]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    listed: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            listed += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            listed.append((f"{prefix}{name}", ", ".join(map(str, value))))
        else:
            listed.append((f"{prefix}{name}", str(value)))
    return listed


def _again(material: Material) -> list[str]:
    command = material.facts.get("command") or f"testbed run experiments/{material.plan.campaign.split('-')[0]}.toml"
    words = command if isinstance(command, str) else " ".join(map(str, command))
    lines = ["## Do it again", "", "The whole campaign, then this report from what is on disk:", ""]
    lines += ["```", words, f"testbed report {material.shown_path}", "```"]
    bundle = _one_bundle(material)
    if bundle:
        lines += ["", "One run's evidence by hand (each run's nonce is in its `record.json`, `facts.nonce`):", ""]
        lines += ["```", bundle, "```"]
    return lines


def _one_bundle(material: Material) -> str | None:
    """Return the command that verifies the evidence of the last good run that has any."""
    good = material.runs[material.runs["status"] == str(Status.OK)]
    for run in reversed(good.to_dict("records")):
        record = run["record"]
        evidence, nonce = record.evidence, record.facts.get("nonce")
        if evidence.bundle and evidence.ak and nonce:
            where = Path(material.shown_path) / "runs" / f"{run['cell']}-{run['block']}"
            return f"testbed verify {where / evidence.bundle} --ak {where / evidence.ak} --nonce {nonce}"
    return None


_SECTIONS: tuple[Callable[[Material], list[str]], ...] = (
    _overhead,
    _correctness,
    _attacked,
    _unmeasured,
    _doubts,
    _failures,
    _facts,
    _again,
)
