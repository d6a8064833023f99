"""The recording of a demo: an SVG of one size that a page can show, with nothing that is loaded from elsewhere."""

from __future__ import annotations

import io
import re

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from testbed.lab.demo.panels import acts_table, arrivals_table, verdict_panel
from testbed.lab.demo.show import Performance

WIDTH = 100
SVG_MAX = 200_000
_FIRST, _LAST = 13, 5
_TITLE = "testbed demo"
# rich's own format names fonts of a server. A page must not load them, and a reader has a font of its own.
_FONT_FACES = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)


def svg(performance: Performance) -> str:
    """Return the recording: the entries as they arrived, the first verdict, the acts."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    _head(console, "Two containers start. Each file that they run is an entry of the log, and extends PCR 11.")
    console.print(arrivals_table(performance.arrivals, first=_FIRST, last=_LAST))
    _head(console, "The TPM signs its registers and a new nonce. The verifier compares that with the log:")
    console.print(verdict_panel(performance.honest.verdict))
    _head(console, "Then somebody attacks. Each act begins from the machine that was just trusted:")
    console.print(acts_table(performance))
    form = _FONT_FACES.sub("", CONSOLE_SVG_FORMAT)
    return console.export_svg(title=f"{_TITLE}: {performance.machine}", code_format=form, unique_id="demo")


def _head(console: Console, text: str) -> None:
    console.print(Rule(Text(text, style="bold"), align="left", style="dim"))
