"""How long a regular expression can take: a bound on the steps of a match, proven from its form, or a rejection.

Python's engine backtracks: where a repeat can stop at several places *and* the rest can continue from each of them, the
rest is tried once for each. So at most one unbounded repeat may stop at many places, and no unbounded repeat may come
after it. A repeat whose next character cannot be one of its own (``[^/]+/``) stops at one place only. A pattern with an
unknown part is rejected.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# The standard library's parser of patterns. Its public name is deprecated; its nodes are the same in 3.11 to 3.13.
parser: Any = importlib.import_module("re._parser")

_BYTES = bytes(range(256))
_ALL = frozenset(_BYTES)
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
_WORDS = {
    "ASSERT": "look-around",
    "ASSERT_NOT": "look-around",
    "GROUPREF": "a back-reference",
    "GROUPREF_EXISTS": "a back-reference",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repeat",
    "AT": "an anchor in the middle",
}

Node = tuple[Any, Any]


class RefusedError(Exception):
    """Why a pattern is not accepted, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Bound:
    """At most ``fixed + linear * n`` for a name of ``n`` bytes."""

    fixed: int
    linear: int = 0

    def __add__(self, other: Bound) -> Bound:
        return Bound(self.fixed + other.fixed, self.linear + other.linear)

    def __mul__(self, other: Bound) -> Bound:
        if self.linear and other.linear:
            raise RefusedError(
                "two unbounded repeats (`.*` ... `.*`) may need more than linear time; use `[^/]*` for the first"
            )
        linear = self.fixed * other.linear + self.linear * other.fixed
        return Bound(self.fixed * other.fixed, linear)

    def at(self, n: int) -> int:
        """Return the bound for a name of ``n`` bytes."""
        return self.fixed + self.linear * n


def steps(items: Sequence[Node]) -> Bound:
    """Return the bound for a ``fullmatch`` of the sequence ``items``; a step is a node or a character looked at.

    Raises ``RefusedError`` where no linear bound can be proven.
    """
    size = 2 * _count(items) + 1  # each node entered, one character looked at, the end looked for
    ways, cost = _sequence(items, frozenset(), size)
    return cost + ways


def flatten(parsed: Any) -> list[Node]:
    """Return the items of a sequence, those of plain groups among them."""
    items: list[Node] = []
    for op, value in parsed:
        if op.name == "SUBPATTERN":
            _, add_flags, del_flags, inner = value
            if add_flags or del_flags:
                raise RefusedError("it has inline flags: write the letters out, for example [Aa]")
            items += flatten(inner)
        else:
            items.append((op, value))
    return items


def branches(item: Node) -> list[list[Node]]:
    """Return the alternatives of a ``BRANCH``."""
    return [flatten(branch) for branch in item[1][1]]


def _count(items: Sequence[Node]) -> int:
    return sum(1 + sum(_count(inner) for inner in _inside(item)) for item in items)


def _inside(item: Node) -> Iterator[list[Node]]:
    op, value = item
    if op.name == "BRANCH":
        yield from branches(item)
    elif op.name in _REPEATS:
        yield flatten(value[2])


def _sequence(items: Sequence[Node], follow: frozenset[int], size: int) -> tuple[Bound, Bound]:
    """Return the number of places where a sequence can end so that the rest can continue, and the cost of all tries.

    ``follow``: the bytes with which what comes after it can begin. ``size``: the most steps that it takes to find that
    the rest cannot continue; each part of it has at most one way to match nothing, so each is entered once.
    """
    ways, cost = Bound(1), Bound(0)
    follows = _follows(items, follow)
    for item, after in zip(items, follows, strict=True):
        more, price = _item(item, after, size)
        cost += ways * price
        ways *= more
    return ways, cost


def _follows(items: Sequence[Node], follow: frozenset[int]) -> list[frozenset[int]]:
    follows = []
    for item in reversed(items):
        follows.append(follow)
        first, nothing = _first(item)
        follow = first | follow if nothing else first
    return follows[::-1]


def _item(item: Node, follow: frozenset[int], size: int) -> tuple[Bound, Bound]:
    op, value = item
    if op.name == "BRANCH":
        bounds = [_sequence(branch, follow, size) for branch in branches(item)]
        ways = sum((way for way, _ in bounds), Bound(0))
        return ways, sum((price for _, price in bounds), Bound(1))
    if op.name in _REPEATS:
        return _repeat(value[0], value[1], flatten(value[2]), follow, size)
    return Bound(1), Bound(1)


def _repeat(low: int, high: int, body: list[Node], follow: frozenset[int], size: int) -> tuple[Bound, Bound]:
    single = len(body) == 1 and body[0][0].name not in ("BRANCH", *_REPEATS)
    if not single:
        if (low, high) == (0, 1):
            ways, price = _sequence(body, follow, size)
            return Bound(1) + ways, Bound(1) + price
        raise RefusedError(
            "a repeat of more than one character: only ? may follow a group; for the rest of a path write /.*"
        )
    unbounded = high == parser.MAXREPEAT
    ends = Bound(1, 1) if unbounded else Bound(high - low + 1)
    looks = Bound(2, 1) if unbounded else Bound(1 + high)
    if low == high or not _characters(body[0]) & follow:
        # The rest continues from one end only; from each other end it takes at most `size` steps to fail.
        return Bound(1), looks + (Bound(0) if low == high else ends * Bound(size))
    return ends, looks


def _first(item: Node) -> tuple[frozenset[int], bool]:
    """Return the bytes with which an item can begin and whether it can match nothing, in one way at most."""
    op, value = item
    if op.name == "BRANCH":
        firsts = [_first_of(branch) for branch in branches(item)]
        if sum(nothing for _, nothing in firsts) > 1:
            raise RefusedError("two branches can both match the empty text: remove one of them")
        return frozenset().union(*(first for first, _ in firsts)), any(nothing for _, nothing in firsts)
    if op.name in _REPEATS:
        low, _, body = value
        first, nothing = _first_of(flatten(body))
        if nothing:
            raise RefusedError("a repeat of something that can match the empty text: remove one of the two repeats")
        return first, low == 0
    return _characters(item), False


def _first_of(items: Sequence[Node]) -> tuple[frozenset[int], bool]:
    union: frozenset[int] = frozenset()
    for item in items:
        first, nothing = _first(item)
        union |= first
        if not nothing:
            return union, False
    return union, True


def _characters(item: Node) -> frozenset[int]:
    """Return the bytes that an item of one character takes. Raises for any other item."""
    op, value = item
    if op.name == "ANY":
        return _ALL - {ord("\n")}
    if op.name == "LITERAL":
        return frozenset({value})
    if op.name == "NOT_LITERAL":
        return _ALL - {value}
    if op.name == "RANGE":
        return frozenset(range(value[0], value[1] + 1))
    if op.name == "CATEGORY":
        return _category(value.name)
    if op.name == "IN":
        negated = value[0][0].name == "NEGATE"
        taken = frozenset().union(*(_characters(inner) for inner in value[negated:]))
        return _ALL - taken if negated else taken
    what = _WORDS.get(op.name, f"an unknown part ({op.name})")
    raise RefusedError(
        f"it has {what}: use only characters, sets, *, +, ? and |; a pattern always matches the whole name"
    )


def _category(name: str) -> frozenset[int]:
    known = {"CATEGORY_DIGIT": rb"\d", "CATEGORY_SPACE": rb"\s", "CATEGORY_WORD": rb"\w"}
    wanted = known.get(name.replace("NOT_", ""))
    if wanted is None:
        raise RefusedError(f"it has an unknown class ({name}): write the characters out")
    members = frozenset(b"".join(re.findall(wanted, _BYTES)))
    return _ALL - members if "NOT_" in name else members
