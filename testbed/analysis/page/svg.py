"""A figure as SVG within a page: its marks can be pointed at and reached by keyboard, its colours follow the page's."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import matplotlib as mpl
from lxml import etree
from markupsafe import Markup
from matplotlib.figure import Figure

from testbed.analysis.figures import canvas
from testbed.analysis.page.environment import visible

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_POINTS = 72.0  # an inch
_REACH = 9.0  # radius of what can be pointed at, in points: a mark alone is too small a target
# Colours of the figures by the page's names for them: ink and paper change places in the dark.
_COLOURS = {
    "#000000": "ink",
    "#222222": "ink",
    "#444444": "soft",
    "#777777": "faint",
    "#bbbbbb": "band",
    "#dddddd": "grid",
    "#eeeeee": "shade",
    "#ffffff": "paper",
    "#0072b2": "blue",
    "#d55e00": "vermilion",
    "#009e73": "green",
    "#cc79a7": "purple",
    "#e69f00": "orange",
    "#56b4e9": "sky",
    "#f0e442": "yellow",
    "#888888": "grey",
    "#332288": "indigo",
}
_COLOUR = re.compile("|".join(_COLOURS), re.IGNORECASE)
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineFigure:
    """A figure for a page: ``picture`` is SVG, ``words`` belong below it, ``marks`` counts what shows its numbers."""

    name: str
    title: str
    picture: Markup
    words: str
    marks: int


def inline(figure: Figure, name: str, title: str) -> InlineFigure:
    """Return a figure as SVG for a page. ``name`` begins each id in it, so that ids of several figures differ.

    The words below the figure are taken out of it.
    """
    said, inches = canvas.apart(figure)
    root = _drawn(figure, name)
    _, _, width, height = (float(number) for number in root.get("viewBox", "").split())
    shown = height - _POINTS * inches
    for attribute in ("width", "height", "version"):
        del root.attrib[attribute]
    root.set("viewBox", f"0 0 {width:g} {shown:g}")
    root.set("style", f"max-width: {width * 1.6:.0f}px; min-width: {min(width, 620):.0f}px")
    root.set("role", "group")
    root.set("aria-label", title)
    marks = [element for element in root.iter() if (element.get("id") or "").startswith(canvas.MARK)]
    for element in marks:
        _reachable(element)
    _own(root, name)
    picture = etree.tostring(root, encoding="unicode")
    return InlineFigure(name=name, title=title, picture=Markup(picture), words=said, marks=len(marks))  # noqa: S704 - by lxml


def _drawn(figure: Figure, name: str) -> etree._Element:
    drawn = io.BytesIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}, fname=canvas.STYLE):
        figure.savefig(drawn, format="svg", metadata=metadata)
    parser = etree.XMLParser(remove_comments=True, remove_blank_text=True, resolve_entities=False, no_network=True)
    root = etree.fromstring(drawn.getvalue(), parser)
    # Its rule would hold for the whole page.
    for element in [*root.iter(f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")]:
        parent = element.getparent()
        assert parent is not None, "both are inside the picture"
        parent.remove(element)
    etree.cleanup_namespaces(root)
    return root


def _reachable(element: etree._Element) -> None:
    """Make a mark one that a pointer and the keyboard reach, with its numbers as its name."""
    words = str(visible(str(element.attrib.pop("id")).removeprefix(canvas.MARK)))
    element.set("class", "mark")
    element.set("tabindex", "0")
    element.set("role", "img")
    element.set("aria-label", words)
    for use in element.iter(f"{{{_SVG}}}use"):
        place = {"cx": use.get("x", "0"), "cy": use.get("y", "0"), "r": f"{_REACH:g}"}
        etree.SubElement(element, f"{{{_SVG}}}circle", place | {"class": "reach"})
        break
    title = etree.Element(f"{{{_SVG}}}title")
    title.text = words
    element.insert(0, title)


def _own(root: etree._Element, name: str) -> None:
    """Give each id that is used the figure's name, remove the others, and name colours as the page does."""
    used = {goal for element in root.iter() for key, value in _attributes(element) for goal in _goals(key, value)}
    for element in root.iter():
        for key, value in _attributes(element):
            del element.attrib[key]
            if key == "id":
                if value in used:
                    element.set(key, f"{name}-{value}")
            elif key == _HREF:
                element.set("href", f"#{name}-{value.removeprefix('#')}")
            else:
                element.set(key, value if key in _TEXT else _painted(_REFERENCE.sub(rf"url(#{name}-\1)", value)))
    etree.cleanup_namespaces(root)


_TEXT = frozenset({"aria-label", "class"})


def _attributes(element: etree._Element) -> list[tuple[str, str]]:
    return [(str(key), str(value)) for key, value in element.attrib.items()]


def _goals(key: str, value: str) -> list[str]:
    """Return the ids that an attribute refers to."""
    if key == _HREF:
        return [value.removeprefix("#")]
    return [] if key in _TEXT else _REFERENCE.findall(value)


def _painted(value: str) -> str:
    return _COLOUR.sub(lambda found: f"var(--fig-{_COLOURS[found[0].lower()]})", value)
