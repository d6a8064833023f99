"""Every link of the finished site is followed: files and anchors within it. Links to other sites are only counted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lxml import html

# What a browser fetches by itself. The site must be complete without a network.
_FETCHED = (("img", "src"), ("script", "src"), ("link", "href"), ("source", "src"), ("iframe", "src"))
# Pages that Sphinx makes for its own use.
_OWN = {"genindex.html", "search.html", "py-modindex.html"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found: complaints, how many links lead into the site, and which lead out of it."""

    complaints: tuple[str, ...]
    internal: int
    external: tuple[str, ...]


def check(site: Path) -> Checked:
    """Follow each link of each page of a site on disk."""
    trees = {path: html.parse(path).getroot() for path in sorted(site.rglob("*.html"))}
    ids = {path: set(tree.xpath("//@id")) | set(tree.xpath("//a/@name")) for path, tree in trees.items()}
    complaints, external, internal = [], set(), 0
    for path, tree in trees.items():
        for name, attribute in (("a", "href"), *_FETCHED):
            for target in tree.xpath(f"//{name}/@{attribute}"):
                parts = urlsplit(target)
                if parts.scheme or parts.netloc:
                    if name == "a":
                        external.add(str(target))
                    elif parts.scheme != "data":
                        complaints.append(f"{path.relative_to(site)}: {name} is fetched from elsewhere: {target}")
                    continue
                internal += 1
                complaints += _complaint(site, path, str(target), ids)
    return Checked(complaints=tuple(complaints), internal=internal, external=tuple(sorted(external)))


def _complaint(site: Path, page: Path, target: str, ids: dict[Path, set[str]]) -> list[str]:
    parts = urlsplit(target)
    there = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
    where = f"{page.relative_to(site)}: {target}"
    if not there.is_file():
        return [f"{where}: no such file"]
    anchor = unquote(parts.fragment)
    if anchor and there in ids and there.name not in _OWN and anchor not in ids[there]:
        return [f"{where}: no such anchor"]
    return []
