"""ext4 disks of tar files, made by one ``mke2fs`` whatever the host: two versions lay equal files out differently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from testbed.files import file_digest
from testbed.lab.build import cache, debian

TOOLS_KIND = "tools"
# Raise it when this module makes something else of the same packages.
BUILDER = 1
_NEEDED = 512 << 20
# A page, whatever the size of the disk (``mke2fs`` gives one below 512 MiB blocks of 1 KiB): a kernel before 6.3
# refuses fs-verity on others, and reading a page of four blocks is not what a disk of usual size costs.
BLOCK = 4096
# Of no meaning; fixed for each layout, so that one content gives one file system.
_UUID = "6d1b9a4e-0f5a-4d0e-9a53-7c1f{:04x}{:04x}"
_OF_FILES, _OF_HASHES = 1, 2


def argv(label: str, mib: int, more: Sequence[str] = (), layout: int = 0) -> tuple[str, ...]:
    """Return the command that makes ``/out/disk.raw`` of ``/out/disk.tar``, inside the root with the tools.

    ``layout``: another number gives another UUID, and with it another checksum of each structure, and another order
    within large directories (``tarball.ordered`` gives another order of files and so of their blocks and inodes).
    """
    seed = f"hash_seed={_UUID.format(layout, _OF_HASHES)}"
    settled = f"{seed},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"
    return (
        *("mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-O", "verity", "-L", label, "-m", "0"),
        *("-U", _UUID.format(layout, _OF_FILES), "-E", settled, *more),
        *("-d", "/out/disk.tar", "/out/disk.raw", f"{mib}M"),
    )


def make(at: Path, tools: Path, command: Sequence[str]) -> None:
    """Make ``disk.raw`` of ``disk.tar`` in the directory ``at``, and remove the latter. Raises ``CommandError``."""
    debian.enter(tools / "root", command, write={at: "/out"})
    (at / "disk.tar").unlink()


def tools(suite: str, packages: Sequence[str], progress: cache.Progress, *, outdated: bool = False) -> Path:
    """Return the entry with ``root/``, which has a ``mke2fs`` that reads tar files; the host's may not (before 1.47.1).

    ``packages``: of ``suite``, e2fsprogs among them (or other programs that are run on the host).
    """

    def build(at: Path) -> None:
        progress(f"tools: {', '.join(packages)}")
        debian.bootstrap(suite, packages, at / "root.tar", variant="extract", outdated=outdated)
        debian.unpack(at / "root.tar", at / "root")
        note_packages(at)
        (at / "root.tar").unlink()

    key = cache.content_key({"builder": BUILDER, "suite": suite, "packages": packages})
    return cache.entry(TOOLS_KIND, key, build, needed=_NEEDED)


def note_packages(at: Path) -> None:
    """Write down what is in the entry's ``root.tar``."""
    archive = at / "root.tar"
    cache.write_meta(at, {"digest": file_digest(archive), "packages": debian.packages_of(archive)})
