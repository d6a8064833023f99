"""One object of a saved state, checked by hand: no unknown key, no missing key, each value in its canonical form."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from testbed.attest.strict_json import read_json
from testbed.errors import SpecError

SIZE = (1 << 63) - 1
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_TEXT = r"[^\ud800-\udfff]*"  # JSON can contain half a character (a lone surrogate), which no terminal can print


def parse_object(
    data: bytes, where: str, keys: Collection[str], *, schema: int, hint: str, others: Collection[str] = ()
) -> Object:
    """Read one object of exactly these keys, and perhaps ``others``.

    ``where`` names the file, ``hint`` goes with every ``SpecError``. The number ``schema`` is checked first: another
    version has other keys.
    """
    try:
        raw = read_json(data)
    except ValueError as error:
        raise SpecError(f"{where}: expected JSON, got {f'{error}'[:80]}", hint) from error
    number = raw.get("schema") if isinstance(raw, dict) else schema
    if type(number) is not int or number != schema:
        got = _show(number) if "schema" in raw else "none"
        raise SpecError(f"{where}: schema: expected {schema}, got {got}", hint)
    return Object(raw, where, keys, hint, others)


class Object:
    """One JSON object, in which every key is known and present, but for ``others``, which need not be present.

    All methods raise ``SpecError``.
    """

    def __init__(self, raw: object, where: str, keys: Collection[str], hint: str, others: Collection[str] = ()) -> None:
        self._where = where
        self._hint = hint
        if not isinstance(raw, dict):
            raise SpecError(f"{where}: expected an object, got {_show(raw)}", hint)
        self._raw = raw
        if unknown := sorted(raw.keys() - {*keys, *others}):
            expected = f"no other keys than {', '.join(sorted(keys))}"
            raise SpecError(f"{where}: expected {expected}, got {ascii(unknown[0])[:80]}", hint)
        for key in sorted(set(keys) - raw.keys()):
            raise SpecError(f"{where}: {key}: expected this key, got none", hint)

    def demand(self, key: str, good: bool, expected: str, got: object) -> None:
        """Raise unless ``good``; ``expected`` is in words, ``got`` a value."""
        if not good:
            raise SpecError(f"{self._where}: {key}: expected {expected}, got {_show(got)}", self._hint)

    def has(self, key: str) -> bool:
        return key in self._raw

    def null(self, key: str) -> bool:
        return self._raw[key] is None

    def integer(self, key: str, *, least: int = 0, most: int = SIZE) -> int:
        value = self._raw[key]
        self.demand(key, type(value) is int and least <= value <= most, f"a number from {least} to {most}", value)
        return int(value)

    def truth(self, key: str) -> bool:
        self.demand(key, isinstance(self._raw[key], bool), "true or false", self._raw[key])
        return bool(self._raw[key])

    def text(self, key: str, pattern: str = _TEXT, expected: str = "a text") -> str:
        value = self._raw[key]
        self.demand(key, isinstance(value, str) and bool(re.fullmatch(pattern, value)), expected, value)
        return str(value)

    def digest(self, key: str, size: int) -> str:
        return self.text(key, rf"[0-9a-f]{{{2 * size}}}", f"{size} bytes in lower-case hex")

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a set of texts, which is written in sorted order so that it has one form."""
        values = self._list(key)
        good = all(isinstance(value, str) and re.fullmatch(_TEXT, value) for value in values)
        self.demand(key, good and values == sorted(set(values)), "different texts in order", values)
        return tuple(values)

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a set of numbers of containers, which is not empty and in order."""
        values = self._list(key)
        good = bool(values) and all(type(value) is int and value > 0 for value in values)
        self.demand(key, good and values == sorted(set(values)), "different numbers in order", values)
        return tuple(values)

    def digests(self, key: str, size: int) -> tuple[str, ...]:
        """Return a set of digests, in hex and in order."""
        texts = self.texts(key)
        good = all(re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text) for text in texts)
        self.demand(key, good, f"digests of {size} bytes in lower-case hex", texts)
        return texts

    def objects(self, key: str, keys: Collection[str]) -> Iterator[Object]:
        for number, raw in enumerate(self._list(key)):
            yield Object(raw, f"{self._where}: {key}[{number}]", keys, self._hint)

    def texts_each(self, key: str) -> Iterator[tuple[str, ...]]:
        """Return a list of sets of texts."""
        for number, raw in enumerate(self._list(key)):
            yield Object({"names": raw}, f"{self._where}: {key}[{number}]", ("names",), self._hint).texts("names")

    def rows(self, key: str, keys: Sequence[str]) -> Iterator[Object]:
        """Return objects that are written as lists of their values, in the order of ``keys``."""
        for number, raw in enumerate(self._list(key)):
            fits = isinstance(raw, list) and len(raw) == len(keys)
            self.demand(f"{key}[{number}]", fits, f"a list of {len(keys)} values", raw)
            yield Object(dict(zip(keys, raw, strict=True)), f"{self._where}: {key}[{number}]", keys, self._hint)

    def numbered(self, key: str, below: int) -> tuple[Object, list[int]]:
        """Return an object whose keys are numbers, and these in order."""
        raw = self._raw[key]
        good = isinstance(raw, dict) and all(_NUMBER.fullmatch(number) and int(number) < below for number in raw)
        self.demand(key, good and bool(raw), f"an object with numbers below {below} as keys", raw)
        return Object(raw, f"{self._where}: {key}", raw.keys(), self._hint), sorted(map(int, raw))

    def _list(self, key: str) -> list[Any]:
        self.demand(key, isinstance(self._raw[key], list), "a list", self._raw[key])
        return list(self._raw[key])


def _show(value: object) -> str:
    """Show the start of a value, but not what may be nested deeper than Python can print."""
    if isinstance(value, list | dict) and value and not all(isinstance(item, str | int) for item in value):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, dict):
        return f"keys {ascii(sorted(value))[:80]}"
    return ascii(value)[:80]
