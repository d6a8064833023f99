"""The patterns of names that a policy excuses, found by the text that they begin with, so that many are as fast as few.

Honest names match hardly any pattern. So a pattern is compiled when the first name comes that begins like it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from testbed.attest.policy.lint import NAME_MAX, compile_pattern, heads


@dataclass(slots=True)
class Excludes:
    """Patterns that have been accepted.

    ``_sources``: by the text with which their matches begin; ``_compiled``: the same, as far as they were needed.
    ``_lengths``: by the first directory of such a text, how long the texts in it are.
    """

    _sources: dict[bytes, list[str]] = field(default_factory=dict)
    _compiled: dict[bytes, list[re.Pattern[bytes]]] = field(default_factory=dict, compare=False, repr=False)
    _lengths: dict[bytes, set[int]] = field(default_factory=dict, compare=False, repr=False)
    _count: int = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pattern: str) -> None:
        """Add a pattern. Raises ``RefusedError`` if a policy may not have it."""
        for head in heads(pattern):
            self._sources.setdefault(head, []).append(pattern)
            self._lengths.setdefault(_first_directory(head), set()).add(len(head))
        self._count += 1

    def match(self, name: bytes) -> bool:
        """Whether a pattern excuses a name."""
        for length in self._lengths.get(_first_directory(name), ()):
            if name[:length] in self._sources and self._match(name, name[:length]):
                return True
        return False

    def _match(self, name: bytes, head: bytes) -> bool:
        """Whether a pattern with this head excuses a name. The kernel logs none with a `..`: such a name is forged."""
        if len(name) > NAME_MAX:
            return False
        if (patterns := self._compiled.get(head)) is None:
            patterns = self._compiled[head] = [compile_pattern(source) for source in self._sources[head]]
        return any(pattern.fullmatch(name) for pattern in patterns) and b".." not in name.split(b"/")


def _first_directory(name: bytes) -> bytes:
    """Return a name up to the slash after its first directory, or all of it if it has none there."""
    return name[: name.find(b"/", 1) + 1] or name
