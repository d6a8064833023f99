"""Inputs by hypothesis, where atheris has no wheel and where a run must be the same each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

_SPLICED = 256


def of(target: Any) -> st.SearchStrategy[bytes]:
    """Inputs for a target."""
    seeds = target.seeds()
    text = mutated(seeds, target.words)
    return text | mutated_json(seeds) | mutated_json(seeds) if target.is_json else text


def mutated(seeds: list[bytes], words: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Any bytes, or a seed to which up to eight things were done."""
    # By index: hypothesis writes out what it samples from.
    some_seed = st.integers(0, len(seeds) - 1).map(seeds.__getitem__)
    some_word = st.sampled_from(words)
    places = st.integers(0, max(map(len, seeds)))
    edit = st.one_of(
        st.tuples(st.just("flip"), places, st.integers(1, 255)),
        st.tuples(st.just("put"), places, some_word | st.binary(max_size=8)),
        st.tuples(st.just("over"), places, some_word | st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("drop"), places, st.integers(1, _SPLICED)),
        st.tuples(st.just("twice"), places, st.integers(1, _SPLICED)),
        st.tuples(st.just("end"), places, st.just(0)),
        st.tuples(st.just("splice"), places, some_seed),
    )
    return st.builds(_apply, some_seed, st.lists(edit, max_size=8)) | st.binary(max_size=200)


def _apply(data: bytes, edits: list[tuple[str, int, int | bytes]]) -> bytes:
    for word, place, what in edits:
        at = place % (len(data) + 1)
        left, right = data[:at], data[at:]
        if isinstance(what, bytes):
            data = left + what + (right[len(what) :] if word == "over" else right)
        elif word == "flip":
            data = left + bytes(one ^ what for one in right[:1]) + right[1:]
        elif word == "drop":
            data = left + right[what:]
        elif word == "twice":
            data = left + right[:what] + right
        else:
            data = left
    return data


def mutated_json(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A seed of which up to three values, or keys of objects, were replaced: it is JSON all the same."""
    some_seed = st.integers(0, len(seeds) - 1).map(seeds.__getitem__)
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(_TEXTS)
    anything = st.recursive(plain, lambda one: st.lists(one, max_size=2) | st.dictionaries(st.text(max_size=4), one))
    place = st.integers(0, 1 << 16)
    replaced = st.one_of(
        st.tuples(st.just("value"), place, anything),
        st.tuples(st.just("key"), place, st.text(max_size=8) | st.sampled_from(_TEXTS)),
        *[st.tuples(st.just("near"), place, st.integers(0, 3))] * 2,
    )
    return st.builds(_replace, some_seed, st.lists(replaced, min_size=1, max_size=3))


# What only a mistake accepts: other forms of numbers and of hex, paths that go up, half a character.
_TEXTS = (
    "",
    "010",
    "+1",
    " 1",
    "\uff11",
    "AB" * 32,
    "ab" * 32,
    "ab" * 32 + "\n",
    "\ud800",
    "/../a",
    "/a//b",
    "a/%00",
    "24",
    "*",
)


def _replace(seed: bytes, replaced: list[tuple[str, int, Any]]) -> bytes:
    raw = json.loads(seed)
    for word, number, what in replaced:
        places = list(_places(raw))
        if not places:
            break
        holder, key = places[number % len(places)]
        if word == "key" and isinstance(holder, dict):
            holder[what] = holder.pop(key)
        elif word != "key":
            holder[key] = _near(holder[key], what) if word == "near" else what
    return json.dumps(raw).encode()


def _places(raw: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in a list or an object, as its holder and its place there."""
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ():
        yield raw, key
        yield from _places(value)


def _near(value: Any, choice: int) -> Any:
    """A value of the same type that is a little another one."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return (value + 1, value - 1, value << 32 if isinstance(value, int) else 0, -value)[choice]
    if isinstance(value, str):
        return (value[:-1], value.upper(), f"{value}\n", f"{value}{value[:1]}\ud800")[choice]
    if isinstance(value, list):
        return (value[:-1], value[1:], value * 2, value[::-1])[choice]
    pairs = list(value.items())
    return dict((pairs[:-1], pairs[1:], pairs[::-1], [*pairs, ("x", 0)])[choice])
