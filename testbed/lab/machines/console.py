"""What a machine's console says when the machine is lost."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from testbed.kernel_complaints import complaints

_LINES = 25
# A report's stack is longer than that, and its cause stands above it.
_CAUSE_LINES = 5


def last_words(file: Path) -> str:
    """Return the end of a machine's console for an error's message, and before it the lines that name a cause."""
    with suppress(OSError):
        lines = file.read_bytes().decode(errors="backslashreplace").splitlines()
        causes = complaints("\n".join(lines[:-_LINES]))[-_CAUSE_LINES:]
        tail = lines[-_LINES:]
        return "\n".join(["last lines of its console:", *causes, *tail]) if lines else "its console is empty"
    return "its console cannot be read"
