"""Show what runs and what is there: campaigns, machines, the cache, and what this machine does not have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from testbed.attest.decoded.as_text import escaped
from testbed.commands._options import RESULTS
from testbed.lab import overview
from testbed.lab.overview import CampaignState, MachineState, Overview

SCHEMA = 1
_AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_CAMPAIGN = "{:40}  {:>9}  {:>6}  {:>6}  {:>8}  {:6}  {:>7}  {}"
_HEAD = ("campaign", "complete", "lost", "failed", "rejected", "tier", "age", "")


@click.command("status")
@RESULTS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(results: Path, *, as_json: bool) -> None:
    """Show what runs and what is there: campaigns, machines, the cache, and what this machine does not have.

    It changes nothing. *complete*: runs with a record, of those planned. Of these, *lost*: the machine was lost or
    timed out; *failed*: the workload failed; *rejected*: something disturbed the measurement. *age*: the time since the
    last run began. In JSON, sizes are in bytes and ages in seconds. Exit status: 0.
    """
    found = overview.look(results)
    click.echo(json.dumps(as_object(found), indent=1) if as_json else "\n".join(lines(found)))


def as_object(found: Overview) -> dict[str, object]:
    """Return everything as one JSON object; sizes in bytes, ages in seconds."""
    plain: dict[str, object] = json.loads(json.dumps(asdict(found), default=str))
    return {"schema": SCHEMA, **plain}


def lines(found: Overview) -> Iterator[str]:
    """Yield what people read."""
    if found.campaigns:
        yield _CAMPAIGN.format(*_HEAD).rstrip()
        yield from map(_campaign, found.campaigns)
    else:
        yield f"no campaign in {_plain(str(found.results))}; `testbed run EXPERIMENT` makes one"
    yield ""
    yield from map(_machine, found.machines)
    if not found.machines:
        yield "no machine runs"
    if any(machine.state == "left" for machine in found.machines):
        yield "`testbed gc` ends what is left and removes its files"
    stored = found.cache
    kinds = ", ".join(f"{kind} {size(count)}" for kind, count in stored.kinds.items())
    more = ", ".join(filter(None, (kinds, f"saved machines {size(stored.saves)}" if stored.saves else "")))
    yield f"cache: {size(stored.size)} in {_plain(str(stored.path))}" + (f" ({more})" if more else "")
    missing = ", ".join(found.missing)
    yield f"doctor: missing {missing}; `testbed doctor` says how to fix it" if missing else "doctor: nothing is missing"


def size(count: int) -> str:
    """Return bytes in a form that people read."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def age(seconds: float | None) -> str:
    """Return an age in its largest unit: ``3 h``."""
    if seconds is None:
        return "-"
    count, unit = next(((seconds // size, unit) for size, unit in _AGES if seconds >= size), (0.0, "s"))
    return f"{count:.0f} {unit}"


def _campaign(state: CampaignState) -> str:
    name = _plain(state.path.name)
    if state.problem:
        return f"{name:40}  {_plain(state.problem)}"
    done = f"{state.complete}/{state.planned}"
    if state.runner is not None:
        says = f"running (process {state.runner})"
    else:
        says = "" if state.complete == state.planned else "not complete: give the same command again"
    counts = (state.lost, state.failed, state.rejected)
    return _CAMPAIGN.format(name, done, *counts, state.tier, age(state.age), says).rstrip()


def _machine(state: MachineState) -> str:
    command = f": {_plain(state.command)}" if state.command else ""
    return f"machine {state.machine[:8]} {state.state}, {age(state.age)}, process {state.owner}{command}"


def _plain(text: str) -> str:
    return escaped(text.encode(errors="surrogateescape"))
