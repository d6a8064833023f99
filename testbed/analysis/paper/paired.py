"""File by file: what a slide's line binds, the same rule from live containers, and this project's measurer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from testbed.analysis.paper.live import LiveEntry, LiveLog
from testbed.analysis.paper.slides import Pick, SlideLine, SlideListing
from testbed.analysis.paper.typeset import PaperTable
from testbed.attest.log.rules import path_of

IMAGE = "(the image)"
_DIGITS = 16
_FILES, _IMAGES = ("prototype-file", "container-file"), ("prototype-image", "container-image")
_KINDS = ("ctr-file", "ctr-image")
_ALL = 1 << 20


def table(listings: Sequence[SlideListing], live: Mapping[str, LiveLog]) -> PaperTable:
    """Return a row for each file that a namespaced line of the slides is about, and one for the image.

    A file is the same if its name is, without the version of a library: the slides' machine had another release.
    """
    slide = dict(_slide_lines(listings))
    rule = {**_live_entries(live.get(_FILES[0])), **_live_entries(live.get(_IMAGES[0]))}
    ours = {**_live_entries(live.get(_FILES[1])), **_image_entry(live.get(_IMAGES[1]))}
    rows = tuple(
        (name, _of_slide(line), _of_live(rule.get(name)), _of_live(ours.get(name))) for name, line in slide.items()
    )
    return PaperTable(
        name="file-by-file",
        caption="The same files on the slides and in live containers: the digest, the bits of content that it binds, "
        "and whether it binds the container.",
        header=("file", "slide", "the same rule, live", "this project's measurer, live"),
        rows=rows,
        code=frozenset({0}),
        wide={1: 0.25, 2: 0.25, 3: 0.25},
    )


def stem(path: str) -> str:
    """Return the name of a file without the version of a library: ``libpcre2-8.so`` of ``/x/libpcre2-8.so.0.11.2``."""
    name = PurePosixPath(path).name
    head, dot, _ = name.partition(".so.")
    return f"{head}.so" if dot else name


def _slide_lines(listings: Sequence[SlideListing]) -> Iterator[tuple[str, SlideLine]]:
    seen: set[str] = set()
    for line in (line for listing in listings for line in listing.lines if line.namespaced):
        path = path_of(line.name.encode())
        name = IMAGE if path is None else stem(path.decode())
        if name not in seen:
            seen.add(name)
            yield name, line


def _live_entries(log: LiveLog | None) -> dict[str, LiveEntry]:
    """Return the entry of each file by its name: by the prototype's rule, or of the first container."""
    found: dict[str, LiveEntry] = {}
    for one in log.picked(Pick.CONTAINER, _ALL) or log.measured if log is not None else ():
        if one.entry.kind == _KINDS[0]:
            found.setdefault(stem(dict(one.entry.fields).get("path", "")), one)
        elif one.namespaced and one.entry.container is None:
            path = path_of(one.entry.name.encode())
            found.setdefault(IMAGE if path is None else stem(path.decode()), one)
    return found


def _image_entry(log: LiveLog | None) -> dict[str, LiveEntry]:
    entries = (one for one in (log.measured if log is not None else ()) if one.entry.kind == _KINDS[1])
    first = next(entries, None)
    return {} if first is None else {IMAGE: first}


def _of_slide(line: SlideLine) -> str:
    return _words(line.digest, line.bits, bound=line.bound)


def _of_live(one: LiveEntry | None) -> str:
    if one is None:
        return "not executed"
    if one.entry.kind == _KINDS[1]:
        # It names no container: each launch of one has the digest of its image.
        return f"{one.entry.digest[:_DIGITS]}: the whole tree; bound to a container by its launch entry"
    return _words(one.entry.digest, one.bits, bound=one.bound)


def _words(digest: str, bits: int | None, *, bound: bool) -> str:
    known = "rule unknown" if bits is None else f"{bits} bits, container {'bound' if bound else 'not bound'}"
    return f"{digest[:_DIGITS]}: {known}"
