"""``testbed shell``: which measurer is active when the shell opens, without a machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("libvirt")

from testbed import shell
from testbed.cli import main
from testbed.errors import LostMachine
from testbed.guest import Completed
from testbed.lab import block, campaign, probe
from testbed.lab.build import image
from testbed.lab.machines import lab
from testbed.measurers import DEPLOYED, POLICY_STAGED
from testbed.record import Tier
from testbed.spec import Experiment

ROOT = Path(__file__).parents[2]


class Guest:
    """A guest that does everything it is asked to, until it is turned off."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.off = False

    def run(self, argv: tuple[str, ...], **_: Any) -> Completed:
        if self.off:
            raise LostMachine("the machine shut down", "")
        self.done.append(" ".join(map(str, argv)))
        return Completed(argv=tuple(argv), code=0, out=b"", err=b"", seconds=0.0)

    def put(self, data: bytes, path: str, **_: Any) -> None:
        self.done.append(f"put {path} {len(data.splitlines())}")


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Guest:
    """Replace everything that builds or boots."""
    known = Guest()
    machine = SimpleNamespace(guest=known, ready_seconds=41.6, private_key="KEY", port=2222)

    @contextmanager
    def boot(*_: object) -> Iterator[SimpleNamespace]:
        known.done.append("boot")
        yield machine
        known.done.append("end")

    @contextmanager
    def open_lab(_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(boot=boot)

    def build_parts(kernel: str, images: tuple[object, ...], wish: Experiment, *_: object) -> SimpleNamespace:
        known.done.append(f"build {kernel} {wish.measurers[0]}")
        products = {"execlog": SimpleNamespace(files=())} if wish.measurers[0] == "execlog" else {}
        return SimpleNamespace(machine=None, bundle=None, images=images, products=products)

    def interact(argv: list[object]) -> int:
        key = Path(str(argv[2]))
        assert (key.read_text(), key.stat().st_mode & 0o777) == ("KEY", 0o600)
        known.done.append("shell")
        return 0

    monkeypatch.setenv("TESTBED_STATE", str(tmp_path))
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))
    monkeypatch.setattr(lab, "open_lab", open_lab)
    monkeypatch.setattr(campaign, "build_parts", build_parts)
    monkeypatch.setattr(probe, "choose_tier", lambda *_: (Tier.TCG, "as requested"))
    monkeypatch.setattr(block, "deploy", lambda *_: known.done.append("deploy"))
    monkeypatch.setattr(block, "deploy_products", lambda _, chosen, __: known.done.append(f"products {chosen.name}"))
    monkeypatch.setattr(shell, "interact", interact)
    return known


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["shell", *words])


def test_without_a_measurer_nothing_is_loaded(guest: Guest) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert guest.done == ["build debian-6.12 none", "boot", "deploy", "shell", "end"]
    assert "debian-6.12 is up after 42 s" in done.stderr
    assert "measurer none: no IMA policy loaded, no programs are attached" in done.stderr
    assert done.stdout == ""


def test_a_measurer_is_active_while_the_shell_is_open(guest: Guest) -> None:
    done = run("--measurer", "container-file", "--kernel", "debian-6.1")
    assert done.exit_code == 0, done.output
    assert guest.done[:3] == ["build debian-6.1 container-file", "boot", "deploy"]
    assert guest.done[3] == f"put {POLICY_STAGED} 1"
    attached, opened = guest.done.index(next(x for x in guest.done if " attach " in x)), guest.done.index("shell")
    detached = guest.done.index(next(x for x in guest.done if " detach " in x))
    assert attached < opened < detached < guest.done.index("end")
    assert "1 line of IMA policy loaded, its programs are attached (mode file)" in done.stderr
    assert f"its counters: {DEPLOYED}/measurer counters --pin" in done.stderr


def test_an_image_comes_with_the_command_that_starts_it(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    built = SimpleNamespace(name="base", reference="localhost/testbed/base")
    monkeypatch.setattr(image, "build_container_image", lambda *_: built)
    monkeypatch.setattr(block, "load", lambda _, runtime, one: guest.done.append(f"load {runtime} {one.name}"))
    done = run("--image", "base")
    assert done.exit_code == 0, done.output
    assert "load podman base" in guest.done
    assert re.search(
        r"^a container: podman .*--network=none .* localhost/testbed/base COMMAND$", done.stderr, re.MULTILINE
    )


def test_a_policy_alone_has_no_programs(guest: Guest) -> None:
    done = run("--measurer", "ima-exec")
    assert "no programs are attached" in done.stderr
    assert "counters" not in done.stderr
    assert not any(" attach " in line for line in guest.done)


def test_a_measurer_from_elsewhere_brings_its_files(guest: Guest) -> None:
    done = run("--measurer", "execlog", "--measurer-path", str(ROOT / "examples/measurer"))
    assert done.exit_code == 0, done.output
    assert "products execlog" in guest.done
    assert "its own programs are in /opt/testbed/execlog" in done.stderr


def test_a_machine_that_was_turned_off_in_the_shell_is_no_error(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "interact", lambda _: setattr(guest, "off", True))
    assert run("--measurer", "container-file").exit_code == 0
    assert guest.done[-1] == "end"


def test_a_machine_that_is_lost_before_is_one(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "deploy", lambda *_: setattr(guest, "off", True))
    done = run("--measurer", "container-file")
    assert done.exit_code == LostMachine.exit_status
    assert "the machine shut down" in done.stderr


def test_an_unknown_measurer_is_refused(guest: Guest) -> None:
    done = run("--measurer", "nonesuch")
    assert done.exit_code == 2
    assert "container-file" in done.stderr
    assert guest.done == []
