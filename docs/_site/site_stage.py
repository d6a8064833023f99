"""The sources of the site, made from the pages of the repository: Sphinx reads only what is below one directory.

A link to a file of the repository that is no page leads to a page that shows that file, so the site is complete
without a network.
"""

from __future__ import annotations

import os
import posixpath
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import site_notebooks
import site_pages
import site_reference
from site_pages import DOCS, INDEX, ROOT, Entry

# More of a file, or more files of a directory, is no help on a page.
_FILE_BYTES = 200_000
_FILES, _NAMES = 40, 200
_LANGUAGES = {".py": "python", ".toml": "toml", ".c": "c", ".h": "c", ".sh": "bash", ".json": "json"}


@dataclass(slots=True, kw_only=True)
class Stage:
    """The directory in which the sources are made, and the files of the repository that they show."""

    out: Path
    shown: set[str] = field(default_factory=set)

    def write(self, name: str, text: str) -> None:
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def page(self, page: str, text: str) -> str:
        """Return the text of a page with links that are right in the site."""
        here = posixpath.dirname(place(page))

        def new(target: str) -> str:
            if site_pages.is_external(target) or target.startswith("#"):
                return target
            path, anchor = site_pages.resolve(page, target)
            there = place(path)
            if not (ROOT / path).exists() or path.startswith(".."):
                return target  # Sphinx says that it leads nowhere
            if there != path or path.endswith(".md"):
                name = there
            elif path.startswith("docs/"):
                name = path.removeprefix("docs/")
            else:
                self.shown.add(path)
                name = show_place(path)
            return posixpath.relpath(name, here or ".") + (f"#{anchor}" if anchor else "")

        return site_pages.relink(text, new)


def place(page: str) -> str:
    """Return where a page or a notebook is in the site's sources; a path that is neither is its own place."""
    if page in site_pages.TOP:
        return page.lower()
    if page.startswith("docs/") and page.endswith(".md"):
        return page.removeprefix("docs/")
    if site_notebooks.source_of(page):
        return f"notebooks/{Path(page).stem}.md"
    return page


def show_place(path: str) -> str:
    """Return the place of the page that shows a file or a directory of the repository."""
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def make(out: Path) -> None:
    """Write the sources of the whole site into a new directory."""
    shutil.rmtree(out, ignore_errors=True)
    stage = Stage(out=out)
    _copy_pictures(out)
    index = (ROOT / INDEX).read_text(encoding="utf-8")
    parts = site_pages.navigation(index, site_pages.pages())
    for page in site_pages.pages():
        if page != INDEX:
            stage.write(place(page), stage.page(page, (ROOT / page).read_text(encoding="utf-8")))
    notebooks = site_notebooks.write(out, stage.page)
    made = site_reference.write(stage.write)
    extra = {"How-to": notebooks, "Reference": made}
    stage.write("index.md", _with_trees(stage, index, parts, extra))
    for path in sorted(stage.shown):
        stage.write(show_place(path), shown(path))


def _copy_pictures(out: Path) -> None:
    for path in DOCS.rglob("*"):
        inside = path.relative_to(DOCS)
        if path.is_file() and path.suffix not in (".md", ".py", ".pyc") and not inside.parts[0].startswith("_"):
            target = out / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _with_trees(stage: Stage, index: str, parts: dict[str, list[Entry]], extra: dict[str, list[Entry]]) -> str:
    """Return index.md with the navigation at the end of each part, and a line for each page that only the site has."""
    text = stage.page(INDEX, index)
    for part, section in site_pages.sections(text).items():
        if part not in parts:
            continue
        only_here = extra.get(part, [])
        lines = [f"- [{entry.title}]({entry.page})" for entry in only_here]
        tree = [tree_line(entry.title, place(entry.page)) for entry in parts[part]]
        tree += [tree_line(entry.title, entry.page) for entry in only_here]
        whole = [section.rstrip(), *lines, "", "```{toctree}", ":hidden:", f":caption: {part}", *tree, "```", "", ""]
        text = text.replace(
            f"## {part}\n{section.removeprefix(chr(10))}", f"## {part}\n" + "\n".join(whole).lstrip("\n")
        )
    return text


def tree_line(title: str, name: str) -> str:
    """Return a line of a table of contents; without a title Sphinx takes the page's own."""
    name = "/" + os.path.splitext(name)[0]  # noqa: PTH122 - a name in the site, not a path on disk
    return f"{title} <{name}>" if title else name


def shown(path: str) -> str:
    """Return a page that shows a file, or each file of a directory; of a large one all names, and its own files."""
    whole = ROOT / path
    head = ["---", "orphan: true", "---", f"# `{path}`", ""]
    if whole.is_file():
        return "\n".join([*head, *_file(whole)])
    files = [file for file in sorted(whole.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    names = [file.relative_to(whole).as_posix() for file in files]
    lines = head
    if len(files) > _FILES:
        more = [f"... and {len(names) - _NAMES} more"] if len(names) > _NAMES else []
        lines += ["```text", *names[:_NAMES], *more, "```", ""]
        files = [file for file in files if file.parent == whole]
    return "\n".join([*lines, *(line for file in files for line in _named(file, file.relative_to(whole).as_posix()))])


def _named(file: Path, name: str) -> list[str]:
    return [f"## `{name}`", "", *_file(file)]


def _file(file: Path) -> list[str]:
    content = file.read_bytes()
    if len(content) > _FILE_BYTES or b"\0" in content:
        return [f"A file of {len(content):,} bytes; it is not shown here.", ""]
    fence = "`" * 8
    language = _LANGUAGES.get(file.suffix, "text")
    return [fence + language, content.decode(errors="replace").rstrip("\n"), fence, ""]
