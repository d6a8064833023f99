"""The front page: short, and its numbers are those of the page about the reference data."""

from __future__ import annotations

import re

from site_pages import ROOT, without_fences

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Three minutes, at 250 words a minute.
WORDS = 750


def test_it_is_read_in_three_minutes() -> None:
    prose = re.sub(r"\]\([^)]*\)", "]", without_fences(README))
    assert len(re.findall(r"\w[\w'-]*", prose)) <= WORDS


def test_its_numbers_are_those_of_the_reference_data() -> None:
    told = (ROOT / "docs/overhead.md").read_text(encoding="utf-8")
    stated = r"[+-]\d+\.\d+ %\s+\[[^]]+\]|\d+ to \d+ % of|\d+\.\d+ instructions per byte"
    numbers = re.findall(rf"{stated}|(?<=within )\d+\.\d+ %", README)
    assert len(numbers) >= 4
    assert [number for number in numbers if " ".join(number.split()) not in " ".join(told.split())] == []


def test_it_shows_a_figure_of_the_reference_data() -> None:
    pictures = re.findall(r"!\[([^]]+)\]\(([^)]+)\)", README)
    assert "docs/overhead.png" in [path for _, path in pictures]
    assert [path for _, path in pictures if not (ROOT / path).is_file()] == []
