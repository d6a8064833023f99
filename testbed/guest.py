"""What a plugin may do with a running machine. ``lab.machines.ssh`` implements it; tests use a fake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A program that ended: ``out`` and ``err`` as bytes, ``seconds`` of host time."""

    argv: tuple[str, ...]
    code: int
    out: bytes
    err: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are escaped, not lost."""
        return self.out.decode(errors="backslashreplace")


class Guest(Protocol):
    """A machine that answers commands."""

    def run(self, argv: Sequence[str], *, timeout: float = 60, input: bytes = b"", check: bool = True) -> Completed:
        """Run a program in the guest as root.

        Raises ``DeployError`` if ``check`` and the status is not 0, ``DeadlineExceeded`` after ``timeout`` seconds,
        ``LostMachine`` if the machine died.
        """
        ...

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file in the guest, parents included."""
        ...

    def get(self, path: str) -> bytes:
        """Read a whole file of the guest (also of ``/proc`` and ``/sys``, whose sizes are wrong)."""
        ...
