"""Saved machines as files, and a lab whose libvirt is a stand-in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_domain import machine

libvirt = pytest.importorskip("libvirt")

from testbed.errors import LabError  # noqa: E402
from testbed.lab.machines import lab as lab_machine  # noqa: E402
from testbed.lab.machines import save, ssh, swtpm  # noqa: E402
from testbed.lab.machines.console import last_words  # noqa: E402
from testbed.lab.machines.lab import Lab  # noqa: E402
from testbed.record import Tier  # noqa: E402

STREAM = bytes(range(256)) * 1000


def image(
    xml: bytes, cookie: bytes = b"", *, magic: bytes = b"LibvirtQemudSave", version: int = 2, form: int = 0
) -> bytes:
    texts = xml + b"\0" + cookie
    offset = len(xml) + 1 if cookie else 0
    return struct.pack("=16s5I56x", magic, version, len(texts), 1, form, offset) + texts + STREAM


@pytest.mark.parametrize("cookie", [b"", b"<cookie/>\0"])
@pytest.mark.parametrize("new", ["<domain/>", "<domain>" + "x" * 5000 + "</domain>"])
def test_a_clones_image_has_its_own_xml_and_the_same_state(tmp_path: Path, new: str, cookie: bytes) -> None:
    (tmp_path / "a").write_bytes(image(b"<domain><name>old</name></domain>", cookie))
    save.copy_with_xml(tmp_path / "a", tmp_path / "b", new)
    assert (tmp_path / "b").read_bytes() == image(new.encode(), cookie)
    assert save.read_xml(tmp_path / "b") == new


@pytest.mark.parametrize(
    "data",
    [
        b"",
        image(b"<domain/>", magic=b"LibvirtQemudPart"),
        image(b"<domain/>", version=3),
        image(b"<domain/>", form=1),
    ],
)
def test_an_image_that_we_do_not_know_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(LabError, match="not a raw save image"):
        save.read_xml(tmp_path / "a")


def saved_at(where: Path, base: Path) -> save.Saved:
    spec = machine(Tier.ICOUNT)
    kernel = {name: base / name for name in ("vmlinuz", "initrd")}
    for path in (*kernel.values(), base / "disk.raw"):
        path.touch()
    spec = replace_paths(spec, kernel, base / "disk.raw")
    notes = save.Notes(
        schema=1, spec=spec, host_key="k", versions={"qemu": 7002022}, authority=base / "ca", boot_seconds=35.0
    )
    return save.write_saved(where, notes, "PRIVATE", lambda at: (at / "memory").touch())


def replace_paths(spec: Any, kernel: dict[str, Path], disk: Path) -> Any:
    from dataclasses import replace

    return replace(spec, kernel=replace(spec.kernel, **kernel), image=replace(spec.image, disk=disk))


def test_a_later_process_reads_what_was_saved(tmp_path: Path) -> None:
    saved = saved_at(tmp_path / "saved", tmp_path)
    assert save.Saved.load(tmp_path / "saved") == saved
    assert saved.private_key == "PRIVATE"
    assert (saved.directory / "key").stat().st_mode & 0o077 == 0


def test_nothing_saved_is_no_error(tmp_path: Path) -> None:
    assert save.Saved.load(tmp_path / "saved") is None


def test_a_save_that_fails_leaves_nothing(tmp_path: Path) -> None:
    notes = saved_at(tmp_path / "one", tmp_path).notes

    def fill(at: Path) -> None:
        (at / "memory").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save.write_saved(tmp_path / "two", notes, "", fill)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.raw", "initrd", "one", "vmlinuz"]


@pytest.mark.parametrize("gone", ["vmlinuz", "disk.raw"])
def test_a_save_whose_base_is_gone_is_refused(tmp_path: Path, gone: str) -> None:
    saved_at(tmp_path / "saved", tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(LabError, match=gone):
        save.Saved.load(tmp_path / "saved")


@pytest.mark.parametrize("text", ["{", "{}"])
def test_notes_that_cannot_be_read_are_told(tmp_path: Path, text: str) -> None:
    saved_at(tmp_path / "saved", tmp_path)
    (tmp_path / "saved" / "saved.json").write_text(text)
    with pytest.raises(LabError, match="not a saved machine"):
        save.Saved.load(tmp_path / "saved")


def test_a_removed_save_is_gone(tmp_path: Path) -> None:
    saved_at(tmp_path / "saved", tmp_path).remove()
    assert save.Saved.load(tmp_path / "saved") is None
    assert not list(tmp_path.glob("saved*"))


class _Connection:
    """Stands for libvirt: refuses so many times, with the words of QEMU."""

    def __init__(self, refusals: int, words: str) -> None:
        self.refusals, self.words, self.ports = refusals, words, []  # type: int, str, list[str]
        self.destroyed = 0

    def getLibVersion(self) -> int:  # noqa: N802
        return 9_000_000

    def getVersion(self) -> int:  # noqa: N802
        return 7_002_022

    def getURI(self) -> str:  # noqa: N802
        return "qemu:///embed?root=/x"

    def createXML(self, xml: str) -> None:  # noqa: N802
        self.ports.append(xml.partition("127.0.0.1:")[2].partition("-")[0])
        if self.refusals:
            self.refusals -= 1
            error = libvirt.libvirtError("refused")
            error.err = (1, 10, self.words, 2, None, None, None, -1, -1)
            error.args = (self.words,)
            raise error

    def lookupByUUIDString(self, _uuid: str) -> Any:  # noqa: N802
        return self

    def destroy(self) -> None:
        self.destroyed += 1


class _Guest:
    host_key = "k"

    def run(self, *_: object, **__: object) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    seen: list[str] = []

    @contextmanager
    def emulator(*_: object) -> Iterator[None]:
        seen.append("swtpm")
        try:
            yield
        finally:
            seen.append("swtpm ended")

    monkeypatch.setenv("TESTBED_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(swtpm, "emulator", emulator)
    monkeypatch.setattr(swtpm, "manufacture", lambda *_: None)
    monkeypatch.setattr(lab_machine, "_make_overlay", lambda *_: None)
    monkeypatch.setattr(ssh, "connect", lambda *_, **__: _Guest())
    return seen


def lab_of(connection: _Connection, tmp_path: Path) -> Lab:
    return Lab(connection, tmp_path, swtpm.CertificateAuthority(directory=tmp_path / "ca"))


def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path, bench: list[str]) -> None:
    connection = _Connection(2, "Could not set up host forwarding rule 'tcp:127.0.0.1:1-:22'")
    with lab_of(connection, tmp_path).boot(machine(Tier.TCG), tmp_path / "m") as booted:
        assert len(connection.ports) == 3
        assert bench == ["swtpm", "swtpm ended"] * 2 + ["swtpm"]
        assert len(bytes.fromhex(booted.clone_id)) == 16
    assert bench[-1] == "swtpm ended"


def test_a_machine_without_a_tpm_starts_none(tmp_path: Path, bench: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swtpm, "manufacture", None)
    with lab_of(_Connection(0, ""), tmp_path).boot(machine(Tier.TCG, tpm=False), tmp_path / "m") as booted:
        assert bench == []
        assert "<tpm" not in booted.domain_xml.read_text()
    assert bench == []


def test_a_refusal_is_told_and_leaves_only_texts(tmp_path: Path, bench: list[str]) -> None:
    connection = _Connection(1, "out of luck")
    with (
        pytest.raises(LabError, match="out of luck"),
        lab_of(connection, tmp_path).boot(machine(Tier.TCG), tmp_path / "m"),
    ):
        pass
    assert bench == ["swtpm", "swtpm ended"]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["console.log", "domain.xml"]
    assert list((tmp_path / "state" / "live").iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_machine_ends_whatever_happens(tmp_path: Path, bench: list[str], error: type[BaseException]) -> None:
    connection = _Connection(0, "")
    lab = lab_of(connection, tmp_path)
    with pytest.raises(error), lab.boot(machine(Tier.TCG), tmp_path / "m"):
        raise error
    assert connection.destroyed == 1
    assert bench == ["swtpm", "swtpm ended"]
    assert not list((tmp_path / "m").glob("tb-*"))


def test_a_save_of_another_emulator_is_not_restored(tmp_path: Path, bench: list[str]) -> None:
    saved = saved_at(tmp_path / "saved", tmp_path)
    with pytest.raises(LabError, match="saved by"), lab_of(_Connection(0, ""), tmp_path).restore(saved, tmp_path / "m"):
        pass
    assert bench == []


def test_last_words_are_the_end_of_the_console(tmp_path: Path) -> None:
    (tmp_path / "console").write_text("\n".join(f"line {number}" for number in range(100)))
    assert last_words(tmp_path / "console").splitlines()[-1] == "line 99"
    assert "line 50\n" not in last_words(tmp_path / "console")
    assert "cannot be read" in last_words(tmp_path / "none")


def test_the_cause_of_a_splat_is_told_although_its_stack_is_long(tmp_path: Path) -> None:
    lines = ["booting", "Kernel panic - not syncing: sysrq triggered crash", *[f"  frame_{n}" for n in range(60)]]
    (tmp_path / "console").write_text("\n".join(lines))
    told = last_words(tmp_path / "console").splitlines()
    assert told[1] == "Kernel panic - not syncing: sysrq triggered crash"
    assert told[-1] == "  frame_59"
    assert "booting" not in told
