"""``testbed status``: campaigns, machines and the cache as they are, and nothing is changed by looking."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import fake_campaign
import pytest
from click.testing import CliRunner, Result

from testbed import rundir
from testbed.cli import main
from testbed.commands import status as status_command
from testbed.errors import HostError
from testbed.lab import overview, probe
from testbed.lab.build import cache
from testbed.lab.machines import reap
from testbed.lab.probe import Capability
from testbed.plan import Cell
from testbed.record import Record, Status

ROOT = Path(__file__).parents[2]
UUID = "1f8f3a0a-3d2f-4223-92c2-5880f75cf16d"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TESTBED_STATE", str(tmp_path / "state"))
    swtpm = Capability(name="swtpm", ok=False, found="missing", remedy="sudo apt install swtpm")
    monkeypatch.setattr(probe, "capabilities", lambda *, needed_only: [swtpm] if needed_only else [])


def run(results: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["status", "--results", str(results), *words])


def partly(cell: Cell, record: Record) -> Record | None:
    """Leave out, lose, fail or reject runs of the first blocks."""
    ends = {0: Status.MACHINE_LOST, 1: Status.TIMED_OUT, 2: Status.WORKLOAD_FAILED, 3: Status.REJECTED}
    if cell.measurer != "ima-exec":
        return record
    return None if record.block == 5 else replace(record, status=ends.get(record.block, Status.OK))


def test_a_campaign_is_counted(tmp_path: Path) -> None:
    made = fake_campaign.build(tmp_path / "r", change=partly)
    (made.path / "runs" / "something").mkdir()
    kept = next(path for path in (made.path / "runs").iterdir() if path.name.endswith("-4"))
    (made.path / "runs" / f"{kept.name}~1").mkdir()
    done = run(tmp_path / "r")
    assert done.exit_code == 0, done.output
    row = next(line for line in done.stdout.splitlines() if line.startswith("fake-icount"))
    assert re.match(r"fake-icount-0badcafe +29/30 +2 +1 +1  icount +\d+ d  not complete: give the same command", row)
    assert "no machine runs" in done.stdout
    assert "doctor: missing swtpm; `testbed doctor` says how to fix it" in done.stdout


def test_json_says_the_same(tmp_path: Path) -> None:
    made = fake_campaign.build(tmp_path / "r", blocks=2)
    said = json.loads(run(tmp_path / "r", "--json").stdout)
    assert said["schema"] == 1
    (campaign,) = said["campaigns"]
    assert (campaign["complete"], campaign["planned"], campaign["runner"]) == (10, 10, None)
    assert campaign["path"] == str(made.path)
    assert set(campaign) == set(asdict(overview.CampaignState(path=made.path)))
    assert said["missing"] == ["swtpm"]


def test_a_campaign_that_runs_is_first_and_is_not_locked(tmp_path: Path) -> None:
    made = fake_campaign.build(tmp_path / "r", blocks=2)
    other = fake_campaign.build(tmp_path / "s", blocks=2)
    other.path.rename(tmp_path / "r" / "another")
    with rundir.alone(made):
        lines = run(tmp_path / "r").stdout.splitlines()
        with pytest.raises(HostError, match="another process runs this campaign"), rundir.alone(made):
            pass
    assert lines[1].startswith("fake-icount-0badcafe")
    assert lines[1].endswith(f"running (process {os.getpid()})")
    assert "running" not in lines[2]
    assert "running" not in run(tmp_path / "r").stdout


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("plan.json", "{", "expected JSON"),
        ("plan.json", "{}", "not of the expected shape"),
        ("campaign.json", None, "no such file"),
        ("record.json", "[]", "expected an object"),
    ],
)
def test_a_damaged_campaign_is_a_row_with_its_problem(
    tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    made = fake_campaign.build(tmp_path / "r", blocks=2)
    path = next(made.path.rglob(name))
    path.unlink() if content is None else path.write_text(content)
    done = run(tmp_path / "r")
    assert done.exit_code == 0
    assert said in done.stdout


def test_no_campaign_and_hostile_names(tmp_path: Path) -> None:
    assert "no campaign in" in run(tmp_path / "none").stdout
    (tmp_path / "r" / "a\x1b[31m\n").mkdir(parents=True)
    (tmp_path / "r" / "a\x1b[31m\n" / "plan.json").write_text("{")
    said = run(tmp_path / "r").stdout
    assert "\x1b" not in said
    assert "a\\x1b[31m\\n" in said


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.communicate(b"\n")


def record(owner: reap.Owner, name: str, *, domain: str = UUID) -> None:
    held = reap.Holding(owner=owner, directory=Path(f"/nonesuch/{name}"), uri="qemu:///embed?root=/x", domain=domain)
    path = reap.record_directory() / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(held), default=str))


def test_machines_by_their_records(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    me = reap.ourselves()
    process = reap.read_process(child.pid)
    assert process is not None
    record(replace(me, pid=child.pid, start=process.start), "a")
    record(replace(me, start=1), "b", domain="22222222-0")
    record(replace(me, host="another"), "c", domain="33333333-0")
    record(me, "d", domain="")  # a directory without a machine
    (reap.record_directory() / "e.json").write_text("{}")
    before = sorted(reap.record_directory().iterdir())
    said = run(tmp_path).stdout
    assert re.search(
        rf"^machine 1f8f3a0a running, \d+ s, process {child.pid}: python\S* -c input\(\)$", said, re.MULTILINE
    )
    assert re.search(r"^machine 22222222 left, ", said, re.MULTILINE)
    assert re.search(r"^machine 33333333 elsewhere, ", said, re.MULTILINE)
    assert said.count("\nmachine ") == 3
    assert "`testbed gc` ends what is left" in said
    assert sorted(reap.record_directory().iterdir()) == before


def test_the_cache_by_kind(tmp_path: Path) -> None:
    def build(at: Path) -> None:
        (at / "vmlinuz").write_bytes(bytes(1 << 20))

    entry = cache.entry("kernel", "0" * 64, build)
    saved = cache.root() / "saves" / "x"
    saved.mkdir(parents=True)
    (saved / "memory").write_bytes(b"1" * (3 << 20))
    state = overview.cache_state()
    assert state.kinds == {"kernel": cache.used(entry)}
    assert state.saves >= 3 << 20
    assert state.size == state.saves + state.kinds["kernel"]
    assert "saved machines 3 MB" in run(tmp_path).stdout


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "-"), (0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7300, "2 h"), (200000, "2 d")]
)
def test_ages(seconds: float | None, said: str) -> None:
    assert status_command.age(seconds) == said


def test_it_works_without_libvirt(tmp_path: Path) -> None:
    program = "import sys; sys.modules['libvirt'] = None; from testbed.cli import main; main(sys.argv[1:])"
    argv = [sys.executable, "-c", program, "status", "--results", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "libvirt" in done.stdout
