"""Each command of README.md, of the tutorial and of the how-to pages works as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_commands import LISTED, ROOT, Block, blocks, checkout, of_page, run, says, unlisted

HOW_TO = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/how-to").glob("*.md"))
PAGES = ("README.md", "docs/tutorial.md", "docs/kvm.md", *HOW_TO)

# Blocks that boot machines, and what runs them, or why nothing does.
MACHINE = {
    "docs/tutorial.md": "tests/vm/test_tutorial.py",
    "docs/how-to/add-a-measurer.md": "tests/vm/test_example.py",
    "docs/how-to/add-a-workload.md": "the run of the tutorial, with another workload",
    "docs/how-to/add-a-kernel.md": "tests/vm/test_kernels.py; a compiled tree takes hours",
    "docs/how-to/add-an-attack.md": "the run of the tutorial, with an attack; the demo makes the same attack",
    "docs/how-to/verify-your-evidence.md": "needs a TPM; the lab gives the same commands in every guest",
    "docs/kvm.md": "no machine of this project has a KVM that works",
}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_in_order(page: str, tmp_path: Path) -> None:
    chosen = unlisted((block for block in of_page(page) if not block.machine), LISTED)
    if chosen:
        complaints = run(chosen, checkout(tmp_path))
        assert not complaints, "\n".join(complaints)


def test_every_line_of_the_lists_is_needed() -> None:
    commands = [line for page in PAGES for block in of_page(page) if not block.machine for line in block.commands]
    assert [name for name in LISTED if not any(line.startswith(name) for line in commands)] == []
    assert set(MACHINE) == {page for page in PAGES if any(block.machine for block in of_page(page))}


def test_the_tests_that_are_named_exist() -> None:
    named = [word.rstrip(";,") for text in (*LISTED.values(), *MACHINE.values()) for word in text.split()]
    assert [name for name in named if name.startswith("tests/") and not (ROOT / name).exists()] == []


TEXT = """
```sh
echo one
false  # exit status 1
cat <<'END'
two
END
```

```text
one
t...
```

1. In a list:

   ```sh machine
   reboot \\
     now
   ```
"""


def test_a_page_is_read_as_blocks_with_their_output() -> None:
    first, second = blocks("a.md", TEXT)
    assert (first.machine, second.machine) == (False, True)
    assert first.output == "one\nt...\n"
    assert first.commands == ["echo one", "false  # exit status 1", "cat <<'END'\ntwo\nEND"]
    assert second.commands == ["reboot \\\n  now"]
    assert (first.where, second.where) == ("a.md:3", "a.md:18")


def test_a_block_that_fails_or_prints_something_else_is_reported(tmp_path: Path) -> None:
    first, _ = blocks("a.md", TEXT)
    assert run([first], tmp_path) == []

    def complaint(text: str, output: str = "") -> str:
        block = Block(page="a.md", line=7, machine=False, text=text, output=output)
        return "\n".join(run([first, block], tmp_path))

    assert complaint("false\n").startswith("a.md:7: exit status 1")
    assert complaint("true  # exit status 1\n").startswith("a.md:7: exit status 99")
    assert complaint("(exit 4)  # exit status 1\n").startswith("a.md:7: exit status 1")
    assert "and this was:\nthree\n" in complaint("echo three\n", "two\n")


def test_output_is_compared_line_by_line() -> None:
    assert says("a ... c\n", "x\na b c\ny\n")
    assert not says("a ... c\n", "a b d\n")
    assert not says("b\n", "a b c\n")
