"""What were the pieces of a line that a terminal or a mail program broke? Every possibility, for a digest to decide."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from testbed.attest.log.begin import begin_of
from testbed.attest.log.pasted import tidy

# With so few breaks, each may have been a blank or nothing; with more, all were the same.
MIXED = 4
_HEX = re.compile(r"[0-9a-fA-F]+")


def glued(pieces: list[str], fronts: list[re.Pattern[str]], *, mixed: bool = True) -> Iterator[str]:
    """Yield what the pieces may have been together, each once. The first begins an entry.

    ``fronts``: what may stand before each further piece, as ``begin.fronts`` returns it. Without ``mixed``, only what
    is most probable.
    """
    seen = set()
    for these in (pieces, [tidy(piece) for piece in pieces]):
        first = these[0][begin_of(these[0]) or 0 :]
        for front in (None, *(fronts if mixed else fronts[:1])):
            plain = [first, *(without(front, piece) for piece in these[1:])]
            bare = [first.rstrip(), *(piece.strip() for piece in plain[1:])]
            # Marks that continue a line: quoted-printable, a shell.
            marked = [*(piece.removesuffix("=").removesuffix("\\") for piece in bare[:-1]), bare[-1]]
            for variant in (plain, bare, marked) if mixed else (plain, bare):
                for line in _with_glue(variant, mixed=mixed):
                    if line not in seen:
                        seen.add(line)
                        yield line


def without(front: re.Pattern[str] | None, piece: str) -> str:
    match = front.match(piece) if front else None
    return piece[match.end() :] if match else piece


def _with_glue(pieces: list[str], *, mixed: bool) -> Iterator[str]:
    # A signature or a buffer is broken without blanks.
    parts = pieces[:1]
    for piece in pieces[1:]:
        if len(parts) > 1 and _HEX.fullmatch(piece) and _HEX.fullmatch(parts[-1]):
            parts[-1] += piece
        else:
            parts.append(piece)
    yield "".join(parts)
    yield " ".join(parts)
    if not mixed:
        return
    yield "\n".join(pieces)
    if len(parts) <= MIXED + 1:
        for glues in itertools.product(("", " "), repeat=len(parts) - 1):
            yield parts[0] + "".join(map("".join, zip(glues, parts[1:], strict=True)))
