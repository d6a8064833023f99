"""The pages of the documentation: where they are, the links in them, and their places in the site's navigation.

``docs/index.md`` is the one list of pages. GitHub shows it as it is; the site makes its navigation from it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
INDEX = "docs/index.md"

# Pages that GitHub wants at the top of the repository.
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PARTS = ("Tutorial", "How-to", "Reference", "Explanation")
# The part of a page that index.md does not list: it is reached all the same, and a test complains.
OTHERWISE = "Reference"

_CODE = re.compile(
    r"^(?P<fence> *(?:```|~~~)).*?^(?P=fence) *$|(?P<ticks>`+)[^`].*?(?P=ticks)", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"(?<=\]\()(?P<target>[^()\s]+)(?=\))")
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *#*$", re.MULTILINE)
_BULLET = re.compile(r"^- \[(?P<title>.+?)\]\((?P<target>[^)]+)\)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the navigation: a title, and the page (its path in the repository)."""

    title: str
    page: str


def pages() -> list[str]:
    """Return the Markdown pages of the documentation, by their paths in the repository."""
    inside = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))
    return [*TOP, *inside]


def outside_code(text: str) -> str:
    """Return the text with each character of code replaced by a blank, so that places stay the same."""
    return _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def links(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the target of each link and image of a page; code has none."""
    for match in _LINK.finditer(outside_code(text)):
        yield text.count("\n", 0, match.start()) + 1, match["target"]


def relink(text: str, new: Callable[[str], str]) -> str:
    """Return the text with ``new(target)`` as the target of each link; lines keep their numbers."""
    parts, end = [], 0
    for match in _LINK.finditer(outside_code(text)):
        parts += [text[end : match.start()], new(match["target"])]
        end = match.end()
    return "".join([*parts, text[end:]])


def is_external(target: str) -> bool:
    """Return whether a link leaves the repository."""
    return re.match(r"[a-z][a-z0-9+.-]*:", target) is not None


def resolve(page: str, target: str) -> tuple[str, str]:
    """Return the path in the repository and the anchor to which a relative link on a page leads.

    A path that leaves the repository begins with ``../``.
    """
    path, _, anchor = target.partition("#")
    return (posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page), anchor


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page; a repeated heading gets a number."""
    found: set[str] = set()
    for match in _HEADING.finditer(without_fences(text)):
        base = slug(match[2])
        name, number = base, 0
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.add(name)
    return found


def slug(heading: str) -> str:
    """Return GitHub's anchor of a heading: of a link only its text, lower case, no punctuation, ``-`` for a blank."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def without_fences(text: str) -> str:
    """Return the text with its code blocks left out, inline code kept."""
    return re.sub(r"^( *(?:```|~~~)).*?^\1 *$", "", text, flags=re.MULTILINE | re.DOTALL)


def dead_links(page: str, text: str) -> list[str]:
    """Return a complaint for each relative link of a page that leads nowhere, or to an anchor that is not there."""
    complaints = []
    for line, target in links(text):
        if is_external(target):
            continue
        path, anchor = resolve(page, target)
        there = text if path == page else None
        if there is None and not (ROOT / path).exists():
            complaints.append(f"{page}:{line}: {target}: no such file")
            continue
        if anchor and path.endswith(".md"):
            there = (ROOT / path).read_text(encoding="utf-8") if there is None else there
            if anchor not in anchors(there):
                complaints.append(f"{page}:{line}: {target}: {path} has no heading with this anchor")
    return complaints


def sections(index: str) -> dict[str, str]:
    """Return the text of each part of index.md, by its heading."""
    found = re.split(r"^## +(.+)$", index, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def navigation(index: str, existing: list[str]) -> dict[str, list[Entry]]:
    """Return the lines of each part of the navigation: those that index.md lists, then the pages that it does not."""
    listed = {part: _listed(text) for part, text in sections(index).items() if part in PARTS}
    known = {entry.page for entries in listed.values() for entry in entries} | {INDEX}
    for page in existing:
        if page not in known:
            listed[OTHERWISE].append(Entry(title="", page=page))
    return listed


def _listed(text: str) -> list[Entry]:
    found = [(" ".join(match["title"].split()), resolve(INDEX, match["target"])[0]) for match in _BULLET.finditer(text)]
    return [Entry(title=title.replace("`", ""), page=page) for title, page in found]
