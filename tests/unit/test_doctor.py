from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from testbed.commands.doctor import command as doctor
from testbed.lab import probe
from testbed.lab.probe import Capability

QEMU = Capability(name="qemu", ok=True, found="7.2")
NO_SWTPM = Capability(name="swtpm", ok=False, found="missing", remedy="sudo apt install swtpm")
NO_KVM = Capability(name="kvm", ok=False, found="no /dev/kvm", needed=False)


@pytest.mark.parametrize(("found", "status"), [([QEMU], 0), ([QEMU, NO_KVM], 0), ([QEMU, NO_SWTPM], 3)])
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_only_what_is_needed_decides(
    monkeypatch: pytest.MonkeyPatch, found: list[Capability], status: int, words: list[str]
) -> None:
    monkeypatch.setattr(probe, "capabilities", lambda: found)
    assert CliRunner().invoke(doctor, words).exit_code == status


def test_a_line_a_capability_with_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "capabilities", lambda: [QEMU, NO_SWTPM, NO_KVM])
    lines = CliRunner().invoke(doctor).output.splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", "qemu"], ["MISSING", "swtpm"], ["no", "kvm"]]
    assert lines[1].endswith("remedy: sudo apt install swtpm")


def test_json_is_all_that_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "capabilities", lambda: [NO_SWTPM])
    (told,) = json.loads(CliRunner().invoke(doctor, ["--json"]).output)["capabilities"]
    assert told["remedy"] == "sudo apt install swtpm"
