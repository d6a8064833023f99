"""The forms of the dictionary, and the columns that several tables have.

A column is one line of text: its name, its type, its unit (``-`` for none), its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. ``type``: ``text``, ``integer``, ``number``, ``flag``, or ``list`` (in CSV as JSON)."""

    name: str
    type: str
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTable:
    """One table: what one row is, the file of the campaign that has it (if one does), and its columns."""

    name: str
    row: str
    file: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def columns(*texts: str) -> tuple[Column, ...]:
    """Read columns, a line each."""
    lines = (line.strip() for text in texts for line in text.strip().splitlines())
    parts = (line.split(maxsplit=3) for line in lines)
    return tuple(
        Column(name=name, type=kind, unit="" if unit == "-" else unit, meaning=meaning)
        for name, kind, unit, meaning in parts
    )


def pick(text: str, *names: str) -> str:
    """Return the lines of these columns."""
    return "\n".join(line for line in text.strip().splitlines() if line.split()[0] in names)


AXES = """
kernel text - name of the kernel (`images/kernels/`)
runtime text - program that starts the containers
measurer text - measurer that was in the guest
workload text - what the containers ran
attack text - attack on the evidence in the guest; `none` for none
"""
STRATUM = pick(AXES, "kernel", "runtime", "workload")
RUN = """
cell text - id of the cell: the first digits of the digest of all its inputs
run text - name of the run's directory below `runs/`
"""
BLOCK = "block integer - number of the boot, from 0"
INTERVAL = """
low number 1 lower end of the 95 % interval of `ratio`; -inf or 0 where there are too few blocks for an interval
high number 1 upper end of the 95 % interval of `ratio`; inf where there are too few blocks for an interval
"""
UNIT = "unit text - unit of the costs in this row: `instructions` on tier icount, `s` or `ns` on tier kvm"
COUNTS = """
files number files files in containers whose code was measured
bytes number B bytes of these files
lookups number events times that a file was known already
decisions number events times that the programs decided about a file: `files` and `lookups`
extends number entries entries that the log grew by
launches number starts starts of containers that the measurer recorded with their image
walked number files files of known images whose names were looked up again at a later start
image_files number files files of images that were digested at their first start
image_bytes number B bytes of these files
runtimes number files the runtime's own program, hashed at the first start in a machine
runs number runs runs of the measurer's BPF programs; missing where the kernel did not count them
"""
