"""What a machine's console says when the machine is lost."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_LINES = 25
# A splat's stack is longer than that, and its cause stands above it.
CAUSE = re.compile("Kernel panic|Oops|BUG:|general protection|WARNING:")
_CAUSE_LINES = 5


def last_words(file: Path) -> str:
    """Return the end of a machine's console for an error's message, and before it the lines that name a cause."""
    with suppress(OSError):
        lines = file.read_bytes().decode(errors="backslashreplace").splitlines()
        causes = [line for line in lines[:-_LINES] if CAUSE.search(line)][-_CAUSE_LINES:]
        tail = lines[-_LINES:]
        return "\n".join(["last lines of its console:", *causes, *tail]) if lines else "its console is empty"
    return "its console cannot be read"
