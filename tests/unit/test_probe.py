from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from testbed import shell
from testbed.errors import DeadlineExceeded, HostError
from testbed.guest import Completed
from testbed.lab import facts, probe
from testbed.lab.build import cache, kernel
from testbed.lab.machines import reap
from testbed.record import Tier

# Last lines of real consoles: an emulated start that got through, and one under a KVM that cannot run it.
THROUGH = "[    2.837416] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"
STOPPED = "[    0.000000] Linux version 6.12.117\n"


class _Qemu:
    """Stands for QEMU: writes a console, then ends or not."""

    def __init__(self, console: str, *, ends: bool) -> None:
        self.console, self.ends, self.runs = console, ends, 0

    def __call__(self, argv: Sequence[str | Path], *, timeout: float, check: bool) -> Completed:
        self.runs += 1
        words = [str(word) for word in argv]
        Path(words[words.index("-serial") + 1].removeprefix("file:")).write_text(self.console)
        if not self.ends:
            raise DeadlineExceeded("no end")
        return Completed(argv=tuple(words), code=0, out=b"", err=b"", seconds=0)


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose /dev/kvm opens and which has a kernel."""
    monkeypatch.setenv("TESTBED_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(probe, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(facts, "emulator", lambda: {"qemu_version": "7.2.22"})
    (tmp_path / "kvm").touch()
    (tmp_path / "vmlinuz").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("console", "ends", "usable"),
    [(THROUGH, True, True), (STOPPED, True, False), (STOPPED, False, False), ("", False, False)],
)
def test_only_a_kernel_that_got_through_is_believed(
    host: Path, monkeypatch: pytest.MonkeyPatch, console: str, ends: bool, usable: bool
) -> None:
    monkeypatch.setattr(shell, "run", _Qemu(console, ends=ends))
    found = probe.kvm(host / "vmlinuz")
    assert found.ok is usable
    assert ("unusable" in found.found) is not usable


def test_the_answer_is_remembered_until_something_changes(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = _Qemu(STOPPED, ends=False)
    monkeypatch.setattr(shell, "run", qemu)
    assert [probe.kvm(host / "vmlinuz").ok for _ in range(3)] == [False] * 3
    assert qemu.runs == 1
    monkeypatch.setattr(reap, "host_boot_id", lambda: "the next boot")
    probe.kvm(host / "vmlinuz")
    assert qemu.runs == 2
    monkeypatch.setattr(facts, "emulator", lambda: {"qemu_version": "10.0"})
    probe.kvm(host / "vmlinuz")
    assert qemu.runs == 3


def test_notes_that_are_damaged_are_not_believed(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / "state").mkdir()
    (host / "state" / "kvm.json").write_text("{")
    monkeypatch.setattr(shell, "run", _Qemu(THROUGH, ends=True))
    assert probe.kvm(host / "vmlinuz").ok


def test_a_host_without_kvm_starts_nothing(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / "kvm").unlink()
    monkeypatch.setattr(shell, "run", None)
    assert probe.kvm(host / "vmlinuz").found == "no /dev/kvm"


@pytest.mark.parametrize(
    ("requested", "works", "tier"),
    [
        (None, True, Tier.KVM),
        ("auto", True, Tier.KVM),
        ("kvm", True, Tier.KVM),
        (None, False, Tier.ICOUNT),
        ("auto", False, Tier.ICOUNT),
        ("icount", True, Tier.ICOUNT),
        ("tcg", True, Tier.TCG),
    ],
)
def test_the_tier_is_a_choice_with_a_reason(
    host: Path, monkeypatch: pytest.MonkeyPatch, requested: str | None, works: bool, tier: Tier
) -> None:
    monkeypatch.setattr(probe, "known_kernel", lambda: host / "vmlinuz")
    monkeypatch.setattr(shell, "run", _Qemu(THROUGH if works else STOPPED, ends=works))
    chosen, why = probe.choose_tier(requested)
    assert chosen is tier
    assert why


def test_kvm_that_is_asked_for_and_does_not_work_is_an_error(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "known_kernel", lambda: host / "vmlinuz")
    monkeypatch.setattr(shell, "run", _Qemu(STOPPED, ends=False))
    with pytest.raises(HostError, match="unusable"):
        probe.choose_tier("kvm")


def test_an_installed_package_has_no_kernel_of_its_own(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def recipes() -> None:
        raise HostError("images: not found")

    monkeypatch.setattr(kernel, "load_kernels", recipes)
    found = probe.known_kernel()
    assert found is None or found.parent == Path("/boot")


def test_a_first_run_builds_the_kernel_that_it_tries_kvm_with(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Built:
        vmlinuz = host / "vmlinuz"

    def build(*_: Any) -> type[Built]:
        return Built

    monkeypatch.setattr(probe, "known_kernel", lambda: None)
    monkeypatch.setattr(kernel, "build_kernel", build)
    monkeypatch.setattr(shell, "run", _Qemu(THROUGH, ends=True))
    assert probe.choose_tier(None)[0] is Tier.KVM


@pytest.mark.parametrize(("kib", "ok"), [(8 << 20, True), (1 << 20, False)])
def test_memory_is_what_is_available(kib: int, ok: bool) -> None:
    assert probe.memory(f"MemTotal: 99999999 kB\nMemAvailable:   {kib} kB\n").ok is ok


def test_a_full_disk_is_told_with_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 30}))
    assert not probe.disk().ok
    assert "TESTBED_CACHE" in probe.disk().remedy


def test_what_the_cache_holds_already_need_not_be_free(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.root().mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 4 << 30}))
    monkeypatch.setattr(cache, "entries", lambda: [cache.CacheEntry(kind="disk", key="k", path=host, size=9 << 30)])
    assert probe.disk().ok


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "which", lambda _: None)
    found = probe._program(probe.Program(name="swtpm", package="swtpm"))
    assert (found.ok, found.remedy) == (False, "sudo apt install swtpm")


def test_json_says_all() -> None:
    told = json.loads(probe.as_json([probe.Capability(name="a", ok=False, found="f", remedy="r")]))
    assert told == {
        "schema": 1,
        "capabilities": [{"name": "a", "ok": False, "found": "f", "needed": True, "remedy": "r"}],
    }


def test_facts_of_a_guest_leave_out_what_is_new_with_each_boot() -> None:
    line = "root=/dev/vda systemd.set_credential_binary=ssh.authorized_keys.root:QUJD quiet"
    text = f"6.12\n{line}\nHaswell\n7\ntsc\nid\n12289\n"
    assert facts.read_guest(text) == {
        "kernel_release": "6.12",
        "kernel_command_line": "root=/dev/vda quiet",
        "cpu_model": "Haswell",
        "ima_entries": 7,
        "clocksource": "tsc",
        "boot_id": "id",
        "taint": 1,  # 1 | 1 << 12 | 1 << 13: a proprietary module stays visible, ours does not
    }


def test_steal_is_the_eighth_figure() -> None:
    assert facts.steal("cpu  1 2 3 4 5 6 7 88 9 10\ncpu0 1\n") == 88
    assert facts.steal("cpu  1 2 3 4\n") == 0


def test_pressure_is_read_where_it_is_counted(tmp_path: Path) -> None:
    (tmp_path / "cpu").write_text("some avg10=12.50 avg60=0.00 avg300=0.00 total=1\n")
    assert facts.pressure(tmp_path) == {"cpu": 12.5}
