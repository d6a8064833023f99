"""Where the repository's files are that the lab needs and that an installed package does not have."""

from __future__ import annotations

from pathlib import Path

from testbed.errors import HostError

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "testbed"
BPF = ROOT / "bpf"
IMAGES = ROOT / "images"
EXPERIMENTS = Path("experiments")


def needed(path: Path) -> Path:
    """Return ``path`` if it exists. Raises ``HostError``: then this package runs without its repository."""
    if not path.exists():
        hint = "clone the repository and run `make setup` in it; verify, report and figures work without it"
        raise HostError(f"{path}: not found; commands that build or boot need the files of the repository", hint)
    return path


def experiment(name: str) -> Path:
    """Return the experiment file of this name: of the current directory, otherwise of the repository."""
    here = EXPERIMENTS / name
    return here if here.exists() else needed(ROOT / EXPERIMENTS / name)
