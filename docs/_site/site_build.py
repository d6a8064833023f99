"""Build the documentation site into ``build/docs``: its sources, Sphinx without a warning, then every link."""

from __future__ import annotations

import sys
from pathlib import Path

import site_links
import site_stage
from site_pages import DOCS, ROOT
from sphinx.cmd.build import build_main


def main(build: Path = ROOT / "build") -> int:
    """Build and check the site; return the exit status, 1 if anything is wrong with it."""
    sources, site = build / "docs-source", build / "docs"
    site_stage.make(sources)
    options = ["-b", "html", "-q", "-E", "-a", "-W", "--keep-going", "-c", str(DOCS), "-d", str(build / "docs-trees")]
    status = int(build_main([*options, str(sources), str(site)]))
    checked = site_links.check(site)
    for complaint in checked.complaints:
        print(complaint, file=sys.stderr)
    print(f"{site / 'index.html'}: {checked.internal} links within the site, {len(checked.complaints)} lead nowhere")
    print(f"links to other sites, which nobody followed, since this needs a network: {len(checked.external)}")
    return 1 if status or checked.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
