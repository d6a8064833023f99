"""Where the repository's files are that the lab needs and that an installed package does not have."""

from __future__ import annotations

from pathlib import Path

from testbed.errors import HostError

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "testbed"
BPF = ROOT / "bpf"
IMAGES = ROOT / "images"
EXPERIMENTS = Path("experiments")
# The files that are programs, a path in the repository a line.
PROGRAMS = IMAGES / "programs.txt"


def needed(path: Path) -> Path:
    """Return ``path`` if it exists. Raises ``HostError``: then this package runs without its repository."""
    if not path.exists():
        hint = "clone the repository and run `make setup` in it; verify, report and figures work without it"
        raise HostError(f"{path}: not found; commands that build or boot need the files of the repository", hint)
    return path


def programs(tree: Path) -> frozenset[str] | None:
    """Return which files of a tree are programs, by their path in it; ``None`` for a tree of somebody else.

    The modes on disk do not say it: an unpacked archive may have lost them.
    """
    if not tree.is_relative_to(ROOT):
        return None
    lines = needed(PROGRAMS).read_text(encoding="utf-8").splitlines()
    listed = (ROOT / line for line in lines if line and not line.startswith("#"))
    return frozenset(path.relative_to(tree).as_posix() for path in listed if path.is_relative_to(tree))


def experiment(name: str) -> Path:
    """Return the experiment file of this name: of the current directory, otherwise of the repository."""
    here = EXPERIMENTS / name
    return here if here.exists() else needed(ROOT / EXPERIMENTS / name)
