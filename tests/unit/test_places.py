"""The directories that the lab works in: named by variables, and refused early where its programs would fail late."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import NoReturn

import platformdirs
import pytest
from click.testing import CliRunner

from testbed import cli, shell
from testbed.errors import HostError, SpecError
from testbed.lab import campaign, places, probe
from testbed.lab.build import cache, debian

pytest.importorskip("libvirt")
from testbed.lab.machines import hypervisor, reap

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory, and variables for a cache and a state directory in it."""
    monkeypatch.setenv("HOME", f"{tmp_path}")
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TESTBED_CACHE", f"{tmp_path / 'cache'}")
    monkeypatch.setenv("TESTBED_STATE", f"{tmp_path / 'state'}")
    return tmp_path


def test_a_home_directory_that_no_shell_expanded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_CACHE", "~/my cache")
    monkeypatch.setenv("TESTBED_STATE", "~")
    assert (cache.root(), reap.state_directory()) == (home / "my cache", home)


def test_a_home_directory_that_nobody_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_STATE", "~no-such-user/x")
    with pytest.raises(HostError, match="the state directory ~no-such-user/x: there is no such home") as caught:
        reap.state_directory()
    assert "TESTBED_STATE" in caught.value.hint


def test_without_a_home_directory_nothing_is_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESTBED_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: Path("~/.cache") / name)
    with pytest.raises(HostError, match="no such home directory") as caught:
        cache.root()
    assert "TESTBED_CACHE" in caught.value.hint
    assert "HOME" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a,b", "','"), ('a"b', "'\"'"), ("a\\b", "'\\\\'"), ("a#b", "'#'"), ("a\nb", "'\\n'"), ("a\udcffb", "not UTF-8")],
)
def test_a_path_that_a_program_cannot_take_is_refused_with_the_reason(home: Path, name: str, shown: str) -> None:
    with pytest.raises(SpecError) as caught:
        places.check(places.results(home / name))
    assert shown in caught.value.message
    assert ": expected a path without " in caught.value.message
    assert "--results" in caught.value.hint


def test_other_names_are_fine(home: Path) -> None:
    for name in ("a b", "δ", "a'b", "a:b;c&d%20", "(a)*"):
        places.check(places.results(home / name))
    assert list(home.iterdir()) == []


def refuse(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Let the system refuse new files in a directory."""
    real = tempfile.TemporaryFile

    def make(*, dir: Path) -> object:
        if dir == place:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", make)


@pytest.mark.parametrize(
    ("place", "remedy"),
    [("results", "--results"), ("cache", "TESTBED_CACHE"), ("state", "TESTBED_STATE"), ("tmp", "TMPDIR")],
)
def test_a_run_that_could_not_write_builds_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, place: str, remedy: str
) -> None:
    for name in ("results", "cache", "state", "tmp"):
        (home / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", f"{home / 'tmp'}")
    refuse(monkeypatch, home / place)
    monkeypatch.setattr(campaign, "build", lambda *_: pytest.fail("it built"))
    words = ["run", f"{ROOT / 'experiments/smoke.toml'}", "--results", f"{home / 'results'}", "--tier", "icount"]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 3, done.stderr
    assert f"cannot be used: {home / place}: the file system is read-only\n  hint: " in done.stderr
    assert remedy in done.stderr


@pytest.mark.parametrize("words", [["run", "experiments/smoke.toml"], ["images", "build", "base"], ["shell"]], ids=str)
def test_a_cache_with_such_a_name_is_refused_by_each_command_that_builds(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("TESTBED_CACHE", f"{home}/a,b")
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 2, done.stderr
    assert "read it as the end of an option" in done.stderr
    assert "TESTBED_CACHE" in done.stderr


def test_a_file_in_the_place_of_a_directory_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("TESTBED_STATE", f"{home / 'file'}")
    with pytest.raises(HostError, match=f"state directory cannot be used: {home / 'file'}") as caught:
        places.check(places.state())
    assert "TESTBED_STATE" in caught.value.hint
    with pytest.raises(HostError, match=f"{home / 'file'}"), reap.holding(home / "tb-00000000"):
        pass


def test_the_doctor_tells_each_place_and_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "state").mkdir()
    refuse(monkeypatch, home / "state")

    def hidden() -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", "/hidden")

    monkeypatch.setattr(probe, "_PROGRAMS", ())
    for name in ("_libvirt", "_emulation"):
        monkeypatch.setattr(probe, name, lambda: probe.Capability(name="x", ok=True, found=""))
    monkeypatch.setattr(probe, "disk", hidden)
    monkeypatch.setattr(probe, "known_kernel", hidden)
    found = {one.name: one for one in probe.capabilities()}
    assert found["cache"].ok
    assert found["cache"].found == f"{home / 'cache'}"
    assert (found["state directory"].ok, "TESTBED_STATE" in found["state directory"].remedy) == (False, True)
    assert (found["disk"].ok, found["disk"].found) == (False, "/hidden: permission denied")
    assert (found["kvm"].ok, found["kvm"].needed) == (False, False)


def test_what_kvm_did_is_told_also_where_it_cannot_be_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "kvm").touch()
    (home / "state").touch()  # no directory can be made there
    monkeypatch.setattr(probe, "KVM", home / "kvm")
    monkeypatch.setattr(probe, "boot_kernel", lambda *_: "")
    assert probe.kvm(home / "kvm").ok


def test_libvirt_gets_the_path_of_its_root_as_a_part_of_a_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    class Connection:
        def close(self) -> None:
            pass

    def connect(uri: str) -> Connection:
        opened.append(uri)
        return Connection()

    monkeypatch.setattr(hypervisor.libvirt, "open", connect)
    monkeypatch.setattr(hypervisor, "start_event_loop", lambda: None)
    monkeypatch.setattr(hypervisor, "embedded_root", lambda: Path("/a b&c#%20/δ"))
    with hypervisor.connection(None):
        pass
    assert opened == ["qemu:///embed?root=/a%20b%26c%23%2520/%CE%B4"]


def test_a_directory_for_temporary_files_that_does_not_exist_is_not_passed_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for chosen, kept in ((home, f"{home}"), (home / "none", None)):
        monkeypatch.setenv("TMPDIR", f"{chosen}")
        assert shell.environment().get("TMPDIR") == kept
        assert debian._scratch(home) == (kept or "/var/tmp")


def test_without_any_directory_for_temporary_files_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> NoReturn:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/x']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(HostError, match="No usable temporary directory") as caught:
        places.temporary()
    assert "TMPDIR" in caught.value.hint


def test_a_short_directory_exists(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for runtime in ("relative", f"{home / 'none'}"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        assert hypervisor.short_directory().is_dir()
        assert hypervisor.short_directory() != Path(runtime)
