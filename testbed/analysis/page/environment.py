"""How a page is made: the templates, what they escape, the style and the script that each page contains.

Evidence is hostile text. Each value that a template shows goes through ``visible``, then through Jinja's escaping of
HTML. A page also forbids, by its own policy, every script but its own and everything from a network.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from testbed.attest.decoded.as_text import printable

_HERE = "testbed.analysis.page"


def visible(value: Any) -> Any:
    """Return text as ``printable`` does; other values, and text that is HTML already, as they are."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(template: str, **values: Any) -> str:
    """Return a page of a template, with all that it needs in it."""
    script = _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = _environment().get_template(template)
    return text.render(style=Markup(_file("report.css")), script=Markup(script), script_digest=digest, **values)  # noqa: S704 - of this package


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def _file(name: str) -> str:
    return resources.files(_HERE).joinpath(name).read_text(encoding="utf-8")
