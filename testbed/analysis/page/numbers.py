"""A number in the report's words, divided for a table: the value, its interval, what is remarked on it."""

from __future__ import annotations

import re
from dataclasses import dataclass

# As `analysis.words` writes them: `+1.80 % [+1.75, +1.86] (below \u03b4)`, `+7.56 [+7.49, +7.67] M instructions`.
_NUMBER = re.compile(
    r"(?P<value>[+\u2212]?\d[\d.]*(?: %)?) (?P<interval>\[[^\]]*\])(?: (?P<unit>[^ (][^(]*?))?(?: \((?P<remark>.*)\))?"
)
_PLAIN = re.compile(r"[+\u2212]?\d[\d.,]*(?: [%a-zA-Z\u00b5]+){0,2}|\[[^\]]*\](?: %)?|")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberParts:
    """``value`` with its unit, ``interval`` in brackets, ``remark``; the last two may be empty."""

    value: str
    interval: str = ""
    remark: str = ""


def divide(text: str) -> NumberParts | None:
    """Return the parts of a number with its interval; ``None`` if the text is something else."""
    found = _NUMBER.fullmatch(text.strip("*"))
    if found is None:
        return None
    value = " ".join(filter(None, (found["value"], found["unit"])))
    return NumberParts(value=value, interval=found["interval"], remark=found["remark"] or "")


def numeric(text: str) -> bool:
    """Whether a cell is a number, an interval or empty: such a column is set flush right."""
    return bool(_PLAIN.fullmatch(text)) or divide(text) is not None
