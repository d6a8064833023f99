"""One strict reader of JSON for policies, saved states and ``bundle.json``: no repeated key, no NaN, one spelling.

It reads the bytes; each file then checks its own keys. A policy does that with pydantic. ``bundle.json`` and saved
states are checked by hand (``bundle``, ``saved.strict``): `testbed verify` reads them without a policy, and the import
of pydantic alone takes longer than the verification of a short log.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

_SHOWN = 80


def read_json(data: bytes, *, digits: int | None = None) -> Any:
    """Read JSON in UTF-8. Raises ``ValueError`` and nothing else.

    ``digits``: how many an integer may have; ``None``: as many as Python reads, 4300.
    """
    integer = int if digits is None else partial(_integer, digits)
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=integer)
    except RecursionError as error:
        raise ValueError("lists or objects nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a repeated key: two readers could take two different values."""
    table = dict(pairs)
    if len(table) != len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {ascii(twice)[:_SHOWN]} twice in one object")
    return table


def _no_constant(word: str) -> None:
    raise ValueError(f"{word}, which is not JSON")


def _integer(most: int, text: str) -> int:
    if len(text) > most:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)
