"""A saved machine: memory, disk, TPM and keys in one directory that is complete, or not there."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from testbed.errors import LabError
from testbed.lab.machines.domain import MachineSpec

SCHEMA = 1
_NOTES = "saved.json"

# The head of libvirt's save image, native byte order (libvirt, src/qemu/qemu_saveimage.h): magic, version, length of
# the texts that follow, was_running, format, offset of the cookie in the texts, 14 spare words. Then come the
# domain's XML, a zero byte, libvirt's cookie and QEMU's stream of the machine's state.
_HEAD = struct.Struct("=16s5I56x")
_MAGIC = b"LibvirtQemudSave"
_VERSION = 2
_RAW = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What is written down beside a saved machine. ``versions``: of libvirt and QEMU; others must not restore it."""

    schema: int
    spec: MachineSpec
    host_key: str
    versions: dict[str, int]
    authority: Path
    boot_seconds: float


_ADAPTER: TypeAdapter[Notes] = TypeAdapter(Notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A saved machine on disk. It can be restored many times, by later processes too, and twice at the same time."""

    directory: Path
    notes: Notes

    @property
    def memory(self) -> Path:
        """The save image that libvirt wrote."""
        return self.directory / "memory"

    @property
    def disk(self) -> Path:
        """The overlay of the base image as it was at the save; clones put their own overlays on it."""
        return self.directory / "disk.qcow2"

    @property
    def tpm_state(self) -> Path:
        """The TPM's state directory."""
        return self.directory / "tpm"

    @property
    def private_key(self) -> str:
        """The ssh key that opens the guest."""
        return (self.directory / "key").read_text(encoding="utf-8")

    @property
    def spec(self) -> MachineSpec:
        """What was booted."""
        return self.notes.spec

    @classmethod
    def load(cls, directory: Path) -> Saved | None:
        """Return what is saved at ``directory``, ``None`` if nothing is.

        Raises ``LabError`` if it cannot be read or if what it stands on (kernel, base image) is gone.
        """
        if not directory.is_dir():
            return None
        path = directory / _NOTES
        try:
            notes = _ADAPTER.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise LabError(
                f"{path}: not a saved machine: {error}", f"remove {directory}; it will be made again"
            ) from error
        if notes.schema != SCHEMA:
            raise LabError(
                f"{path}: schema {notes.schema}, expected {SCHEMA}", f"remove {directory}; it will be made again"
            )
        spec = notes.spec
        for needed in (spec.kernel.vmlinuz, spec.kernel.initrd, spec.image.disk, spec.store):
            if needed is not None and not needed.exists():
                raise LabError(f"{path}: its machine needs {needed}, which is gone", f"remove {directory}")
        return cls(directory=directory.absolute(), notes=notes)

    def remove(self) -> None:
        """Remove it. It stops being complete first, so that what a crash leaves is never treated as a saved machine."""
        gone = self.directory.with_name(f"{self.directory.name}.removed")
        shutil.rmtree(gone, ignore_errors=True)
        self.directory.rename(gone)
        shutil.rmtree(gone)


def write_saved(directory: Path, notes: Notes, key: str, fill: Callable[[Path], None]) -> Saved:
    """Make a saved machine: ``fill`` puts memory, disk and TPM into a directory beside, which is then renamed."""
    beside = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        fill(beside)
        descriptor = os.open(beside / "key", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(key)
        (beside / _NOTES).write_bytes(_ADAPTER.dump_json(notes, indent=1))
        beside.rename(directory)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return Saved(directory=directory.absolute(), notes=notes)


def read_xml(image: Path) -> str:
    """Return the domain's XML in libvirt's save image. Raises ``LabError`` if it is not one that we know."""
    with image.open("rb") as file:
        _, texts, cookie, _ = _read_head(image, file.read(_HEAD.size))
        return file.read(cookie or texts).rstrip(b"\0").decode()


def copy_with_xml(image: Path, target: Path, xml: str) -> None:
    """Copy libvirt's save image with another XML in its head.

    libvirt takes another XML at a restore, but not another name and UUID, without which two clones of one machine could
    not run at the same time in one process.
    """
    with image.open("rb") as source, target.open("wb") as copy:
        running, texts, cookie, version = _read_head(image, source.read(_HEAD.size))
        old = source.read(texts)
        new = xml.encode() + b"\0"
        kept = old[cookie:] if cookie else b""
        copy.write(_HEAD.pack(_MAGIC, version, len(new) + len(kept), running, _RAW, len(new) if cookie else 0))
        copy.write(new + kept)
        copy.flush()
        _copy_rest(source.fileno(), copy.fileno(), _HEAD.size + texts)


def _read_head(image: Path, head: bytes) -> tuple[int, int, int, int]:
    # Returns was_running, length of the texts, offset of the cookie in them (0: none), version.
    fields: tuple[Any, ...] = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0, 0, 0, 0)
    magic, version, texts, running, form, cookie = fields
    if magic != _MAGIC or version != _VERSION or form != _RAW:
        raise LabError(f"{image}: not a raw save image of libvirt, version {_VERSION}: {magic!r} {version} {form}")
    return running, texts, cookie, version


def _copy_rest(source: int, target: int, offset: int) -> None:
    while sent := os.sendfile(target, source, offset, 1 << 30):
        offset += sent
