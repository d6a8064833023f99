"""Kernels and measurers: what fails is a row with its reason, and what works is a row with what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from fake_campaign import build, failed

from testbed import cli, rundir
from testbed.analysis import kernels
from testbed.analysis.judged.checks import Judged
from testbed.attest.finding import Finding, FindingKind
from testbed.attest.verdict import Verdict
from testbed.errors import BuildError, DeployError, HostError, LostMachine, SpecError
from testbed.lab import campaign as lab_campaign
from testbed.lab import facts, survey
from testbed.lab.build import cache, kernel
from testbed.lab.campaign import saves
from testbed.plan import Cell
from testbed.record import Record, Status
from testbed.rundir import Campaign
from testbed.spec import Experiment
from testbed.surveys import Survey, Tried, read_survey, write_survey

ARMS = {"none": 0.0, "hooks-only": 0.0, "container-file": 0.1}
QUIET = "[    1.0] Linux\n[   60.2] testbed_measurer: hashing with sha256-avx2\n"
GOOD = Judged(verdict=Verdict(findings=(), attested={10: 40, 11: 9}), promises=True, promised=6)


def campaign(
    root: Path, dmesg: dict[str, str] | None = None, change: Callable[[Cell, Record], Record | None] = lambda _, r: r
) -> Campaign:
    """Return a campaign of one boot whose runs have the kernel's log beside."""

    def logged(cell: Cell, record: Record) -> Record | None:
        return change(cell, replace(record, evidence=replace(record.evidence, dmesg="dmesg.txt")))

    made = build(root, arms=ARMS, blocks=1, change=logged)
    for block in rundir.read_plan(made).blocks:
        for cell in block.cells:
            if (path := made.run_path(cell, block)).exists():
                (path / "dmesg.txt").write_text((dmesg or {}).get(cell.measurer, QUIET))
    return made


def judge_of(judged: Judged) -> Callable[[Campaign], Any]:
    return lambda _campaign: lambda _cell, _path, _record: judged


def rows_of(tmp_path: Path, *tried: Tried, judged: Judged = GOOD) -> tuple[dict[tuple[str, str], list[str]], int]:
    """Return the columns of each kernel and measurer of the page, and its exit status."""
    path = write_survey(tmp_path, Survey(name="s", measurers=tuple(ARMS), host={"tier": "tcg"}, kernels=tried))
    written = kernels.write(path, tmp_path / "page.md", judge_of(judged))
    lines = [line.strip("| ").split(" | ") for line in (tmp_path / "page.md").read_text().splitlines()]
    found = [columns for columns in lines if len(columns) == 6 and columns[0].startswith("`")]
    return {(columns[0].strip("`"), columns[1].strip("`")): columns[2:] for columns in found}, written.exit_status


def tried(made: Campaign, **other: Any) -> Tried:
    known: dict[str, Any] = {
        "kernel": "k",
        "release": "6.0-cloud",
        "version": "6.0-1",
        "seconds": 3.14,
        "campaign": made.path.name,
    }
    return Tried(**known | other)


def test_a_kernel_on_which_all_is_well(tmp_path: Path) -> None:
    rows, status = rows_of(tmp_path, tried(campaign(tmp_path)))
    assert status == 0
    assert rows["k", "none"][:3] == ["-", "-", "yes"]
    assert all(columns[3] for columns in rows.values())
    assert rows["k", "container-file"][:3] == ["3.1 s", "yes", "yes"]
    assert "hash sha256-avx2" in rows["k", "container-file"][3]
    assert "entries on PCR 11 9" in rows["k", "container-file"][3]
    page = (tmp_path / "page.md").read_text()
    assert "| `k` | 6.0-cloud | 6.0-1 |" in page


def test_what_differs_is_told_against_the_first_that_is_well(tmp_path: Path) -> None:
    one, two = campaign(tmp_path / "a"), campaign(tmp_path / "b", {"container-file": QUIET.replace("avx2", "lib")})
    broken = Tried(kernel="broken", problem="error: no such thing")
    runs = [
        replace(tried(made), kernel=name, campaign=f"{name}/{made.path.name}")
        for name, made in (("a", one), ("b", two))
    ]
    rows, _ = rows_of(tmp_path, broken, *runs)
    assert rows["b", "none"][3] == "nothing"
    assert rows["b", "container-file"][3] == "hash sha256-lib, not sha256-avx2"


def test_a_kernel_for_which_nothing_builds_is_rows_and_no_crash(tmp_path: Path) -> None:
    broken = Tried(kernel="k", version="9-1", problem="the measurer does not build for k:\nmain.c:3: error: no | lock")
    rows, status = rows_of(tmp_path, broken)
    assert status == 1
    assert set(rows) == {("k", name) for name in ARMS}
    assert rows["k", "container-file"][:3] == ["**no**", "not tried", "not tried"]
    assert "main.c:3: error: no" in rows["k", "container-file"][3]


def test_a_measurer_that_the_guest_refuses_is_a_row(tmp_path: Path) -> None:
    made = campaign(tmp_path, change=lambda cell, record: None if cell.measurer == "container-file" else record)
    rows, status = rows_of(tmp_path, tried(made, refused={"container-file": "the BPF programs were refused"}))
    assert status == 1
    assert rows["k", "container-file"] == ["3.1 s", "**no**", "not tried", "`the BPF programs were refused`"]
    assert rows["k", "hooks-only"][2] == "yes"


def test_a_run_that_left_nothing_is_no_success(tmp_path: Path) -> None:
    made = campaign(tmp_path, change=lambda cell, record: None if cell.measurer == "none" else record)
    rows, status = rows_of(tmp_path, tried(made))
    assert status == 1
    assert rows["k", "none"] == ["-", "not tried", "not tried", "`there is no record of a run`"]


@pytest.mark.parametrize(
    ("dmesg", "change", "judged", "reason"),
    [
        ("[ 9.0] BUG: kernel NULL pointer dereference\n", {}, GOOD, "the kernel complains"),
        ("[ 9.0] WARNING: CPU: 0 PID: 1 at mm/slub.c:1\n", {}, GOOD, "mm/slub.c:1"),
        ("", {"counters": {"files": 9, "unmeasured_no_identity": 2}}, GOOD, "unmeasured_no_identity is 2"),
        ("", {"facts": {"taint": 512}}, GOOD, "tainted: 512"),
        ("", {}, "missing", "missing was found"),
    ],
)
def test_what_does_not_behave_says_why(
    tmp_path: Path, dmesg: str, change: dict[str, Any], judged: Judged | str, reason: str
) -> None:
    if isinstance(judged, str):
        finding = Finding(kind=FindingKind(judged), where="log", expected="an entry", got="none")
        judged = Judged(verdict=Verdict(findings=(finding,)), promises=True, promised=6)

    def alter(_: Cell, record: Record) -> Record:
        return replace(record, **change | {"facts": record.facts | change.get("facts", {})})

    made = campaign(tmp_path, dict.fromkeys(ARMS, QUIET + dmesg), alter)
    rows, status = rows_of(tmp_path, tried(made), judged=judged)
    assert status == 1
    assert rows["k", "container-file"][:3] == ["3.1 s", "yes", "**no**"]
    assert reason in rows["k", "container-file"][3]


@pytest.mark.parametrize(
    ("fate", "columns"),
    [(Status.MACHINE_LOST, ["not tried", "not tried"]), (Status.WORKLOAD_FAILED, ["yes", "**no**"])],
)
def test_a_run_that_failed_is_a_row(tmp_path: Path, fate: Status, columns: list[str]) -> None:
    rows, status = rows_of(tmp_path, tried(campaign(tmp_path, change=lambda _, r: failed(r, fate, "it panicked"))))
    assert status == 1
    assert rows["k", "container-file"][1:3] == columns
    assert "it panicked" in rows["k", "container-file"][3]


WISH = Experiment(
    name="s", question="?", kernels=("debian-6.1", "debian-6.12"), measurers=("none",), workloads=("tools",)
)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """Stand in for builders and machines; ``problems``: what each raises, by kernel."""
    made = SimpleNamespace(kernel={}, bundle={}, run={}, refused={}, names=[])

    def of(table: dict[str, Exception], name: str) -> None:
        if name in table:
            raise table[name]

    def build_kernel(recipe: Any) -> Any:
        of(made.kernel, recipe.name)
        return SimpleNamespace(name=recipe.name, release="6-cloud")

    def build_bundle(kernel: Any, _source: Path) -> Any:
        of(made.bundle, kernel.name)
        return None

    def conduct(one: Experiment, *, refused: Any, **_: Any) -> Campaign:
        (name,) = one.kernels
        made.names.append(one.name)
        of(made.run, name)
        for measurer, reason in made.refused.get(name, {}).items():
            refused(SimpleNamespace(measurer=measurer), DeployError(reason))
        return Campaign(path=tmp_path / one.name)

    monkeypatch.setattr(kernel, "build_kernel", build_kernel)
    monkeypatch.setattr(kernel, "package_version", lambda _: "6-1")
    monkeypatch.setattr(survey, "build_bundle", build_bundle)
    monkeypatch.setattr(survey, "build_seconds", lambda _: 2.0)
    monkeypatch.setattr(lab_campaign, "conduct", conduct)
    monkeypatch.setattr(facts, "emulator", lambda: {"qemu_version": "7"})
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")
    return made


def surveyed(tmp_path: Path) -> tuple[Tried, ...]:
    return read_survey(survey.survey(WISH, results=tmp_path, tier=None, connect=None)).kernels


def test_a_survey_is_a_campaign_a_kernel(lab: SimpleNamespace, tmp_path: Path) -> None:
    one, two = surveyed(tmp_path)
    assert lab.names == ["s-debian-6.1", "s-debian-6.12"]
    assert one == Tried(kernel="debian-6.1", release="6-cloud", version="6-1", seconds=2.0, campaign="s-debian-6.1")
    assert two.campaign == "s-debian-6.12"


@pytest.mark.parametrize(
    ("stage", "error", "seconds"),
    [
        ("kernel", BuildError("no such package"), None),
        ("bundle", BuildError("main.c: error"), None),
        ("run", LostMachine("no boot"), 2.0),
    ],
)
def test_a_kernel_that_fails_does_not_end_the_survey(
    lab: SimpleNamespace, tmp_path: Path, stage: str, error: BuildError | LostMachine, seconds: float | None
) -> None:
    getattr(lab, stage)["debian-6.1"] = error
    one, two = surveyed(tmp_path)
    assert (one.problem, one.seconds, one.campaign) == (error.message, seconds, "")
    assert (two.problem, two.campaign) == ("", "s-debian-6.12")


def test_a_reason_does_not_tell_where_the_cache_lies(lab: SimpleNamespace, tmp_path: Path) -> None:
    lab.bundle["debian-6.1"] = BuildError(f"in {tmp_path}/cache/kernel/x: error")
    assert surveyed(tmp_path)[0].problem == "in CACHE/kernel/x: error"


def test_a_refusal_is_kept_and_its_saved_machine_is_not(lab: SimpleNamespace, tmp_path: Path) -> None:
    lab.refused["debian-6.1"] = {"none": "unknown symbol"}
    one, two = (saves(Campaign(path=tmp_path / name)) for name in ("s-debian-6.1", "s-debian-6.12"))
    for where in (one, two):
        where.mkdir(parents=True)
    refused, tried = surveyed(tmp_path)
    assert (refused.refused, tried.refused) == ({"none": "unknown symbol"}, {})
    assert not one.exists()
    assert two.exists()


def test_a_kernel_that_does_not_exist_is_the_files_fault(lab: SimpleNamespace, tmp_path: Path) -> None:
    wish = WISH.model_copy(update={"kernels": ("debian-0.1",)})
    with pytest.raises(SpecError, match=r"no kernel 'debian-0\.1'"):
        survey.survey(wish, results=tmp_path, tier=None, connect=None)


def test_a_survey_that_runs_already_is_no_row_of_the_page(lab: SimpleNamespace, tmp_path: Path) -> None:
    campaign = Campaign(path=tmp_path / "campaign")
    with rundir.alone(campaign), pytest.raises(HostError, match="another process") as caught, rundir.alone(campaign):
        pass
    lab.run["debian-6.1"] = caught.value
    with pytest.raises(HostError):
        surveyed(tmp_path)
    assert not list(tmp_path.glob("*.json"))


def test_the_command_writes_the_page_of_what_is_there(tmp_path: Path) -> None:
    made = Survey(name="kernels", measurers=("none",), host={}, kernels=(Tried(kernel="k", problem="no"),))
    write_survey(tmp_path, made)
    page = tmp_path / "kernels.md"
    done = CliRunner().invoke(cli.main, ["kernels", "--again", "--results", str(tmp_path), "--page", str(page)])
    assert done.exit_code == 1
    assert done.stdout.startswith("0 of 1 build, load and behave")
    assert "`no`" in page.read_text()
