"""Compare the overheads that several CAMPAIGNS (directories) found: the same experiment, run again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pandas as pd

from testbed.analysis.agreement import compare, text
from testbed.analysis.tables import frames, metrics
from testbed.analysis.tables.ladder import Question
from testbed.analysis.tables.tables import ladders
from testbed.errors import IncompatibleRuns
from testbed.plan import Plan
from testbed.rundir import Campaign, load, read_facts, read_plan

# What two campaigns must have in common (``campaign.json``) for their numbers to be of the same thing.
_SAME = ("tier", "images", "kernels", "qemu_version")


@click.command("compare")
@click.argument("campaigns", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_context
def command(context: click.Context, campaigns: tuple[Path, ...]) -> None:
    """Compare the overheads that several CAMPAIGNS (directories) found: the same experiment, run again.

    Exit status: 1 if ratios differ by more than 0.1 % (servers: 0.5 %) or an A/A interval reaches further than that;
    4 if the campaigns are not of the same images, kernels, tier and QEMU.
    """
    tables: dict[str, pd.DataFrame] = {}
    first: tuple[Path, dict[str, Any]] | None = None
    for path in campaigns:
        campaign = Campaign(path=path)
        facts = read_facts(campaign)
        first = first or (path, facts)
        _same(first, (path, facts))
        tables[str(path)] = _ladder(campaign, read_plan(campaign), facts)
    agreements, noise = compare({name: table for name, table in tables.items() if len(table)})
    for line in text(agreements, noise):
        click.echo(line)
    good = all(item.ok for item in agreements) and all(item.ok for item in noise)
    context.exit(0 if agreements and good else 1)


def _ladder(campaign: Campaign, plan: Plan, facts: Mapping[str, Any]) -> pd.DataFrame:
    return ladders(frames.rows(load(campaign)), Question.of(plan.tier, facts)).get(metrics.PRIMARY, pd.DataFrame())


def _same(first: tuple[Path, dict[str, Any]], other: tuple[Path, dict[str, Any]]) -> None:
    for name in _SAME:
        if first[1].get(name) != other[1].get(name):
            raise IncompatibleRuns(
                f"{other[0]}: {name} is {other[1].get(name)!r}, but {first[0]} has {first[1].get(name)!r}",
                "only campaigns of the same images, kernels, tier and QEMU can be compared",
            )
