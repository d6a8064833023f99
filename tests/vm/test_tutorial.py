"""The tutorial from its first command to its last, without the set-up: a campaign of one block, in a copied tree."""

from __future__ import annotations

from pathlib import Path

import page_commands  # of tests/unit


def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    blocks = page_commands.unlisted(page_commands.of_page("docs/tutorial.md"), page_commands.LISTED)
    assert [block.machine for block in blocks].count(True) == 3
    complaints = page_commands.run(blocks, page_commands.checkout(tmp_path))
    assert not complaints, "\n".join(complaints)
