r"""Which exclude patterns a policy may have. Rejected: those that excuse (nearly) everything, or can be slow.

The patterns are those of Python's ``re``, and its parser (``policy.steps``) gives the tree that both checks need. RE2
matches in linear time by itself, but its Python module gives no tree, so the first check would still need one. RE2 also
rejects patterns that are accepted here (``\Z``, ``x{0,2000}``, ``(?#...)``) and silently reads some in another way:
``\s`` has no vertical tab, and ``x{,3}`` is literal text. A policy in use would then change its meaning.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable, Sequence

from testbed.attest.policy.paths import shorten
from testbed.attest.policy.steps import Bound, Node, RefusedError, branches, flatten, parser, steps
from testbed.errors import SpecError

NAME_MAX = 4096  # PATH_MAX: a longer name is not that of a file and is never excused
_PATTERN_MAX = 1000
_GROUPS_MAX = 50  # the standard library's parser is recursive
_HEADS_MAX = 100
_STEPS_MAX = 1 << 20  # for the longest name: some milliseconds
_STARTS = ("AT_BEGINNING", "AT_BEGINNING_STRING")
_ENDS = ("AT_END", "AT_END_STRING")
# Parts of a pattern that its shape keeps as they are: an escape, a set, a count, a group without sets and groups.
_KEPT = re.compile(
    r"(\\[^A-Za-z0-9]|\\[dw]|\[\^?(?:\\.|[^\\])(?:\\.|[^\]\\])*\]|\{[0-9,]*\}|\((?:[^][(){}\\]|\\[^A-Za-z0-9])*\))"
)
_PLAIN = re.compile(r"[A-Za-z0-9_/@%,:=~.*+?-]*")
_FIRST = re.compile(r"/[A-Za-z0-9_@%,:=~-]+/")
# Letters within a word: before them is one of the same word, after them one too, or what no repeat can apply to.
_INNER = re.compile(r"(?<=[A-Za-z0-9_])[A-Za-z0-9_]{1,8}(?=[A-Za-z0-9_/-])")
_LETTERS = "x" * 8
_TEXT = r"((?:[A-Za-z0-9_/@%,:=~-](?![*+?{]))*)"
_HEADS = re.compile(rf"{_TEXT}(?:\((?:\?:)?([A-Za-z0-9_/|-]+)\)(?![*+?{{]){_TEXT})?")


def lint(pattern: str, *, anywhere: bool = False) -> str | None:
    """Return why ``pattern`` is rejected and what to write instead; ``None`` if it is accepted.

    ``anywhere``: it need not name a location, because it alone excuses nothing.
    """
    try:
        bound(pattern, anywhere=anywhere)
    except RefusedError as refused:
        return str(refused)
    return None


def heads(pattern: str) -> tuple[bytes, ...]:
    """Return texts, one of which each name begins with that ``pattern`` matches. Raises ``RefusedError``.

    A policy can have a hundred thousand patterns, nearly all of one shape with other words in them; a shape is checked
    once.
    """
    if (shape := _shape(pattern)) is not None and _lint_shape(shape) is None and (begin := _HEADS.match(pattern)):
        before, words, after = begin.groups(default="")
        return tuple((before + word + after).encode() for word in words.split("|"))
    return _check(pattern)[0]


def _shape(pattern: str) -> str | None:
    """Return a pattern that is accepted only if ``pattern`` is, and that many patterns have in common; or ``None``.

    Whether a pattern is accepted depends on its first directory, on what is repeated, and on what follows a repeat. All
    of that stays. The letters within each later word are replaced by as many or more: they make no repeat ambiguous,
    and more of them only take more steps.
    """
    parts = _KEPT.split(pattern)
    first = _FIRST.match(parts[0])
    if first is None or not all(map(_PLAIN.fullmatch, parts[::2])):
        return None
    parts[::2] = [_INNER.sub(_LETTERS, part) for part in (parts[0][first.end() :], *parts[2::2])]
    return first[0] + "".join(parts)


@functools.lru_cache(maxsize=1 << 12)
def _lint_shape(shape: str) -> str | None:
    return lint(shape)


def compile_patterns(
    patterns: Iterable[str], where: str, key: str, *, anywhere: bool = False
) -> tuple[re.Pattern[bytes], ...]:
    """Compile a policy's patterns, for ``fullmatch`` on the bytes of a name. Raises ``SpecError``."""
    compiled = []
    for at, pattern in enumerate(patterns):
        reason = lint(pattern, anywhere=anywhere)
        if reason is not None:
            place = "" if anywhere else "name a location and "
            hint = f"a pattern must {place}match in linear time; docs/policy.md has the rules"
            raise SpecError(f"{where}: key '{key}.{at}': {shorten(pattern, 200)} is rejected: {reason}", hint)
        compiled.append(compile_pattern(pattern))
    return tuple(compiled)


def compile_pattern(pattern: str) -> re.Pattern[bytes]:
    """Compile a pattern that ``lint`` accepts, for ``fullmatch`` on the bytes of a name."""
    return re.compile(pattern.encode("ascii"))


def matches(patterns: Iterable[re.Pattern[bytes]], name: bytes) -> bool:
    """Whether a pattern matches a name. The kernel logs no name with a `..`: such a name is forged."""
    if len(name) > NAME_MAX or b".." in name.split(b"/"):
        return False
    return any(pattern.fullmatch(name) for pattern in patterns)


def bound(pattern: str, *, anywhere: bool = False) -> Bound:
    """Return how many steps a match of ``pattern`` takes at most. Raises ``RefusedError``."""
    return _check(pattern, anywhere=anywhere)[1]


def _check(pattern: str, *, anywhere: bool = False) -> tuple[tuple[bytes, ...], Bound]:
    """Return the heads and the bound of a pattern. Raises ``RefusedError``."""
    items = _parse(pattern)
    begins = () if anywhere else _heads(items)
    for head, whole in begins:
        _check_head(head, whole=whole)
    _check_components(items)
    worst = steps(items)
    if worst.at(NAME_MAX) > _STEPS_MAX:
        raise RefusedError("it can take too many steps: use fewer or smaller bounded repeats and optional parts")
    return tuple(dict.fromkeys(head for head, _ in begins)), worst


def _parse(pattern: str) -> list[Node]:
    """Parse a pattern, without the anchors at its ends, which ``fullmatch`` implies."""
    if len(pattern) > _PATTERN_MAX or pattern.count("(") > _GROUPS_MAX:
        raise RefusedError(f"more than {_PATTERN_MAX} characters or {_GROUPS_MAX} groups: write several patterns")
    if not pattern.isascii() or not pattern.isprintable():
        raise RefusedError("it has characters other than printable ASCII: write each byte as \\xNN")
    if " " in pattern:
        raise RefusedError("it has a space, which IMA writes as an underscore: write _")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = parser.parse(pattern.encode())
    except (re.error, Warning, OverflowError) as error:
        raise RefusedError(f"it is not a regular expression of Python: {error}") from error
    if parsed.state.flags:
        raise RefusedError("it has inline flags: write the letters out, for example [Aa]")
    items = flatten(parsed)
    if items and _is_anchor(items[0], _STARTS):
        items = items[1:]
    if items and _is_anchor(items[-1], _ENDS):
        items = items[:-1]
    return items


def _is_anchor(item: Node, names: Sequence[str]) -> bool:
    op, value = item
    return op.name == "AT" and value.name in names


def _heads(items: Sequence[Node]) -> list[tuple[bytes, bool]]:
    """Return each text with which a match can begin, up to the first non-literal part; and whether it is all."""
    heads = [(b"", True)]
    for item in items:
        more = _alternatives(item)
        grown = [(head + tail, ends) for head, whole in heads if whole for tail, ends in more]
        heads = grown + [(head, whole) for head, whole in heads if not whole]
        if len(heads) > _HEADS_MAX:
            raise RefusedError(f"it can begin in more than {_HEADS_MAX} ways: write several patterns")
        if not grown:
            break
    return heads


def _alternatives(item: Node) -> list[tuple[bytes, bool]]:
    op, value = item
    if op.name == "LITERAL":
        return [(bytes([value]), True)]
    if op.name == "IN" and all(inner.name == "LITERAL" for inner, _ in value):
        return [(bytes([code]), True) for _, code in value]
    if op.name == "BRANCH":
        return [head for branch in branches(item) for head in _heads(branch)]
    return [(b"", False)]


def _check_head(head: bytes, *, whole: bool) -> None:
    """Check how a match begins. It must name a directory: otherwise a pattern excuses nearly everything."""
    shown = ascii(head.decode("latin-1"))
    if not head.startswith(b"/"):
        problem = f"a branch begins with {shown}" if head else "a branch can begin with anything"
        raise RefusedError(f"{problem}: begin each with / and the name of a directory, such as /var/cache/.*")
    parts = head[1:].split(b"/")
    named = parts if whole else parts[:-1]  # the last part may continue
    if not named or not named[0].strip(b"."):
        problem = f"a branch limits the location only to {shown}, which is (nearly) everywhere"
        raise RefusedError(f"{problem}: name the first directory, such as /var/.*")
    if named[0] == b"usr" and not (whole and len(parts) == 1) and not b"".join(named[1:2]).strip(b"."):
        raise RefusedError("nearly all programs are below /usr: name the second directory too")


def _check_components(items: Sequence[Node]) -> None:
    run = "".join(_character(item) for item in items)
    if re.search(r"/\.\.?(?:/|$)", run):
        raise RefusedError("a part of the path is . or .., which the kernel never logs: leave it out (a dot is \\.)")


def _character(item: Node) -> str:
    op, value = item
    if op.name == "ANY":
        return "."
    return chr(value) if op.name == "LITERAL" else "\n"
