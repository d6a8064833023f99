"""The commands of a page, and what the page says that they print: read from its fenced blocks, and run.

A block ```` ```sh ```` is a command for any machine; ```` ```sh machine ```` needs one that boots guests, or a TPM. A
block ```` ```text ```` right after a block of commands is part of their output, in which ``...`` stands for anything. A
command that ends with ``# exit status N`` must end with N, every other one with 0.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a command may read; `.venv/bin/testbed` is made.
PARTS = (
    "README.md",
    "bpf",
    "docs",
    "examples",
    "experiments",
    "images",
    "notebooks",
    "results",
    "testbed",
    "tests/golden",
)
# Commands that no test of a page runs, and why.
LISTED = {
    "make evaluate": "20 minutes; tests/vm/test_campaign.py runs a campaign",
    "make test": "it would run itself",
    "make setup": "installs packages; tests/unit/test_setup.py runs the script with a small lock",
    ".venv/bin/testbed doctor": "its exit status depends on the machine; tests/unit/test_doctor.py",
}
_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_STATUS = re.compile(r"^(.*\S) +# exit status (\d+)$")
_MARK = "<end of block>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of commands. ``line``: where it begins; ``output``: what the page says that it prints."""

    page: str
    line: int
    machine: bool
    text: str
    output: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands, each with its continued lines; a here-document belongs to its command."""
        found: list[str] = []
        end = ""
        for line in self.text.splitlines():
            if end or (found and found[-1].endswith("\\")):
                found[-1] += f"\n{line}"
                end = "" if line == end else end
            elif line.strip() and not line.lstrip().startswith("#"):
                found.append(line)
                start = re.search(r"<<'?(\w+)'?", line)
                end = start[1] if start else ""
        return found


def blocks(page: str, text: str) -> list[Block]:
    """Return the blocks of commands of a page."""
    fences = list(_FENCE.finditer(text))
    found = []
    for match, after in zip_longest(fences, fences[1:]):
        words = match[2].split()
        if words[:1] != ["sh"]:
            continue
        follows = after is not None and after[2] == "text" and not text[match.end() : after.start()].strip()
        output = _unindented(after) if after is not None and follows else ""
        line = text.count("\n", 0, match.start()) + 2
        commands = _unindented(match)
        found.append(Block(page=page, line=line, machine=words[1:] == ["machine"], text=commands, output=output))
    return found


def _unindented(match: re.Match[str]) -> str:
    return re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)


def of_page(page: str) -> list[Block]:
    """Return the blocks of commands of a page of the repository."""
    return blocks(page, (ROOT / page).read_text(encoding="utf-8"))


def checkout(place: Path) -> Path:
    """Make a copy of the repository in which commands can write: sources, data, and ``.venv/bin`` of this Python."""
    for part in PARTS:
        source, target = ROOT / part, place / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_not_of_this_repository)
        else:
            shutil.copyfile(source, target)
    programs = place / ".venv/bin"
    programs.mkdir(parents=True)
    for name, words in (("testbed", "-m testbed.cli"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{place}" exec "{sys.executable}" {words} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    return place


def _not_of_this_repository(directory: str, names: list[str]) -> set[str]:
    """Leave out a user's own campaigns, and what Python leaves."""
    own = {name for name in names if Path(directory) == ROOT / "results" and not name.startswith("reference")}
    return own | {name for name in names if name == "__pycache__"}


def run(blocks: Sequence[Block], place: Path, more: Mapping[str, str] | None = None) -> list[str]:
    """Run blocks one after the other in one shell; return a complaint for each that fails or prints something else."""
    script = "set -euo pipefail\n" + "".join(f"{_checked(block)}\necho '{_MARK}'\n" for block in blocks)
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MAKEFLAGS")}
    env |= {"LC_ALL": "C.UTF-8", "COLUMNS": "120", **(more or {})}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=place,
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    printed = done.stdout.split(f"{_MARK}\n")
    if done.returncode:
        failed = blocks[len(printed) - 1]
        return [f"{failed.where}: exit status {done.returncode}\n{failed.text}{printed[-1]}{done.stderr[-2000:]}"]
    return [
        f"{block.where}: the page says that this is printed:\n{block.output}and this was:\n{text}"
        for block, text in zip(blocks, printed, strict=False)
        if not says(block.output, text)
    ]


def _checked(block: Block) -> str:
    lines = []
    for line in block.text.splitlines():
        expected = _STATUS.match(line)
        # A status other than the expected one ends the shell with a status of its own.
        lines.append(f"{{ {expected[1]}; }} && exit 99 || [ $? = {expected[2]} ]" if expected else line)
    return "\n".join(lines)


def says(expected: str, printed: str) -> bool:
    """Return whether ``printed`` has the lines of ``expected``, in order and without gaps; ``...`` is anything."""
    pattern = r"^" + re.escape(expected.rstrip("\n")).replace(r"\.\.\.", ".*?") + r"$"
    return not expected or re.search(pattern, printed, re.MULTILINE | re.DOTALL) is not None


def unlisted(found: Iterable[Block], listed: Mapping[str, str]) -> list[Block]:
    """Return the blocks without those of which a command begins with a listed one."""
    return [block for block in found if not any(line.startswith(tuple(listed)) for line in block.commands)]
