"""The settings of Sphinx. `make docs` runs it: ``docs/_site`` first makes one directory of sources."""

from __future__ import annotations

import importlib.util
from typing import Any

from sphinx.application import Sphinx

import testbed

project = "An emulated testbed for container trust"
author = "the testbed's contributors"
version = release = testbed.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
root_doc = "index"
exclude_patterns: list[str] = []
# GitHub's anchors, for headings of all levels.
myst_heading_anchors = 6
myst_enable_extensions: list[str] = []
# Examples are parts of JSON and output of programs; what a lexer cannot read is shown without colours.
suppress_warnings = ["misc.highlighting_failure"]

# A desk has no libvirt; only commands that boot machines import it.
autodoc_mock_imports = [] if importlib.util.find_spec("libvirt") else ["libvirt"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = "Testbed for container trust"
html_static_path = ["assets"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False


def setup(app: Sphinx) -> None:
    """Connect what the theme leaves open. The priority: after the theme has made its navigation."""
    app.connect("html-page-context", _accessible, priority=900)


def _accessible(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Let a keyboard scroll wide code and tables; give the captions of the navigation the level that they need."""
    for key, found, wanted in (
        ("body", "<pre>", '<pre tabindex="0">'),
        ("body", '<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'),
        ("furo_navigation_tree", 'role="heading"', 'role="heading" aria-level="2"'),
    ):
        if context.get(key):
            context[key] = context[key].replace(found, wanted)
