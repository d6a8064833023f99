"""A campaign is read once: each command of the desk opens each of its JSON files one time."""

from __future__ import annotations

import builtins
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_campaign import build

from testbed import cli, rundir
from testbed.rundir import load

NAMES = ("record.json", "plan.json", "campaign.json")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """Count how often each JSON file of a campaign is opened to be read, by any code."""
    counts: Counter[Path] = Counter()
    real = io.open

    def counting(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        path = Path(file) if isinstance(file, str | Path) else Path()
        counts[path] += path.name in NAMES and "r" in mode
        return real(file, mode, *args, **more)

    # What ``pathlib`` calls, and what everybody else calls.
    monkeypatch.setattr(io, "open", counting)
    monkeypatch.setattr(builtins, "open", counting)
    return counts


def expected(*campaigns: rundir.Campaign) -> dict[Path, int]:
    return {path: 1 for campaign in campaigns for name in NAMES for path in campaign.path.rglob(name)}


@pytest.mark.parametrize("command", ["report", "figures", "pilot"])
def test_a_command_reads_each_file_once(tmp_path: Path, reads: Counter[Path], command: str) -> None:
    campaign = build(tmp_path)
    CliRunner().invoke(cli.main, [command, str(campaign.path)], catch_exceptions=False)
    assert len(expected(campaign)) == 32
    assert +reads == expected(campaign)


def test_comparing_reads_each_file_of_each_campaign_once(tmp_path: Path, reads: Counter[Path]) -> None:
    one, two = build(tmp_path / "a"), build(tmp_path / "b", seed=2)
    CliRunner().invoke(cli.main, ["compare", str(one.path), str(two.path)], catch_exceptions=False)
    assert +reads == expected(one, two)


def test_what_is_loaded_is_what_is_on_disk(tmp_path: Path) -> None:
    campaign = build(tmp_path, blocks=1)
    path, record = next(rundir.records(campaign))
    aside = path.with_name(f"{path.name}~1")
    aside.mkdir()
    rundir.write_record(aside, record)
    loaded = load(campaign)
    assert loaded.plan == rundir.read_plan(campaign)
    assert loaded.facts == rundir.read_facts(campaign)
    assert loaded.records == tuple(rundir.records(campaign))
    assert {where.name for where, _ in loaded.records} - {where.name for where, _ in loaded.current} == {aside.name}
    assert set(loaded.cells) == {cell.id for cell in loaded.plan.cells}
