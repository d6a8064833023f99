"""``testbed semantics``: what it says of the slides' excerpts, of real logs, and of files that are no log."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import evidence as b
import pastes
import pytest
from click.testing import CliRunner, Result
from test_ascii import as_text

from testbed.attest.log import content
from testbed.attest.log import semantics as reading
from testbed.attest.log.pasted import UNDOS
from testbed.cli import main
from testbed.commands import semantics as semantics_command
from testbed.commands.semantics import command as semantics

GOLDEN = Path(__file__).parents[1] / "golden"
SLIDES = sorted((GOLDEN / "slides").glob("*.txt"))


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["semantics", *map(str, words)])


def said(*words: object) -> dict[str, Any]:
    done = run(*words, "--json")
    found = json.loads(done.output)
    assert isinstance(found, dict)
    assert done.exit_code == (1 if found["findings"] or any(log["damaged"] for log in found["logs"]) else 0)
    return found


def test_the_slides() -> None:
    found = said(*SLIDES)
    counts = {Path(log["path"]).stem: (log["entries"], log["damaged"]) for log in found["logs"]}
    assert counts == {
        "container-files-unreadable": (36, 36),
        "host-and-container-in-one-log": (20, 4),
        "image-digest": (10, 2),
        "namespaced-files": (25, 4),
    }
    assert [(rule["rule"], rule["bits"], rule["namespace_bound"]) for rule in found["rules"]] == [
        ("plain", [{"bound": 256, "entries": 36}], None),
        ("prototype-file", [{"bound": 64, "entries": 6}, {"bound": 0, "entries": 1}], False),
        ("prototype-image", [{"bound": 0, "entries": 1}], False),
        ("unknown", [{"bound": None, "entries": 11}], False),
    ]
    (shared,) = [one for one in found["findings"] if one["expected"] == "another digest in another namespace"]
    assert "4026532423" in shared["got"]
    assert "4026532896" in shared["got"]
    assert "(repaired)" in shared["where"]
    assert [one["kind"] for one in found["findings"]].count("no-content") == 1


PAGE = (GOLDEN.parents[1] / "docs" / "semantics.md").read_text(encoding="utf-8")


def block_of(first: str) -> list[str]:
    """Return the lines of the page's block of output that begins so, without those that stand for others."""
    (block,) = [
        one for one in re.findall(r"^```[a-z]*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if one.startswith(first)
    ]
    return [line for line in block.splitlines() if line != "..."]


def test_the_page_shows_a_real_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/semantics.md shows what is printed for the slides."""
    monkeypatch.chdir(GOLDEN / "slides")
    printed = run(*(path.name for path in SLIDES)).output.splitlines()
    kept = block_of("container-files-unreadable")
    assert len(kept) > 20
    assert [line for line in printed if line in kept] == kept


def test_the_page_shows_real_runs_of_pasted_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = as_text(
        b"".join(
            (
                b.ima_ng("boot_aggregate", b"a"),
                b.ima_sig("/usr/bin/id", b"1") + b.ima_sig("/usr/bin/tail", b"2"),
                *(b.ima_ng(f"/usr/bin/{name}", b"3") for name in "xyz"),
            )
        )
    )
    mail = pastes.WHOLE["quoted"](pastes.WHOLE["blanks lost at the end"](log))
    Path("mail.txt").write_bytes(b"On Monday, somebody wrote:\n" + mail + b"\n")
    one, other = as_text(b.ima_ng("/usr/bin/x", b"x")), as_text(b.ima_ng("/usr/bin/yy", b"y"))
    shortened = one[:30] + b"... ima-ng sha256:5dd8db... /usr/bin/x\n"
    Path("issue.txt").write_bytes(one[:30] + one[31:] + other + shortened + one[1:])
    for name in ("mail.txt", "issue.txt"):
        printed = run(name)
        shown = block_of(name)
        assert printed.output.splitlines()[: len(shown)] == shown
        assert printed.exit_code == (name == "issue.txt")


def test_the_page_has_everything_that_is_undone() -> None:
    table = re.findall(r"^\| ([a-zA-Z -]+) \| ", PAGE, re.MULTILINE)
    assert {undo.words for undo in UNDOS} | {"line breaks removed", "line breaks added"} <= set(table)


def test_each_log_alone() -> None:
    alone = said(GOLDEN / "slides" / "namespaced-files.txt")
    rules = {rule["rule"]: rule["entries"] for rule in alone["rules"]}
    assert rules == {"plain": 7, "prototype-file": 6, "unknown": 12}


def test_a_real_log() -> None:
    found = said(GOLDEN / "bundle-debian-6.12" / "ima.bin")
    assert found["logs"][0]["form"] == "binary"
    assert found["findings"] == []
    assert {rule["rule"] for rule in found["rules"]} == {"plain", "container-file"}
    bound = {rule["rule"]: (rule["entries"], rule["namespace_bound"]) for rule in found["rules"] if rule["pcr"] == 11}
    assert bound == {"container-file": (60, True), "plain": (3, None)}


def test_a_binary_log_with_a_prototypes_line(tmp_path: Path) -> None:
    image = b.entry(11, b"ima-ng", b.digest_field(bytes(32)) + b.field(b"4026532981\0"))
    other = b.entry(10, b"ima-ng", b.digest_field(bytes(32)) + b.field(b"/x\0"), digest=b"\x01" * 20)
    strange = b.entry(10, b"strange", b"?")
    lying = b.entry(11, b"ima-buf", b.digest_field(bytes(32)) + b.field(b"ctr-file\0") + b.field(b"payload"))
    (tmp_path / "log").write_bytes(b.ima_ng("/x", b"") + image + b.violation("/v") + other + strange + lying)
    found = said(tmp_path / "log")
    (log,) = found["logs"]
    assert (log["entries"], log["violations"], log["damaged"]) == (6, 1, 1)
    assert log["damaged_lines"][0]["entry"] == 4
    assert [one["kind"] for one in found["findings"]] == ["unsupported", "template-hash", "weak-binding", "no-content"]
    text = run(tmp_path / "log").output
    assert "1 violation\n" in text
    assert "not read: entry 4 at byte" in text


def test_findings_and_damage_are_shown_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (semantics_command, content):
        monkeypatch.setattr(module, "SHOWN", 2)
        monkeypatch.setattr(module, "KEPT", 2)
    head = "10 " + "1" * 40
    lines = [f"{head} ima-ng sha256:00 /x", f"{head} strange x"] * 3
    (tmp_path / "log").write_text("\n".join(lines))
    found = said(tmp_path / "log")
    assert [one["kind"] for one in found["findings"]] == ["unsupported"] * 3
    assert (found["findings"][2]["where"], found["findings"][2]["got"]) == (
        f"{tmp_path / 'log'}: further lines",
        "1 more",
    )
    assert found["logs"][0]["damaged"] == 3
    assert len(found["logs"][0]["damaged_lines"]) == 2
    assert "... and 1 more; --json has the first 2" in run(tmp_path / "log").output


@pytest.mark.parametrize("data", [b"", b"\n\n", b"[user@host ~]$ ls\n", b"\x7fELF\x02\x01\x01", b"\0" * 40, b"\0"])
def test_what_is_no_log(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "log").write_bytes(data)
    done = run(tmp_path / "log")
    assert done.exit_code == 4
    assert "error: " in done.output
    assert str(tmp_path / "log") in done.output


@pytest.mark.parametrize(
    ("rest", "said_of_it"),
    [
        (b"\n", "1 byte that"),
        (b"\r\n", "2 bytes that"),
        (bytes(6), "6 bytes that cannot be read as one: expected 28 bytes of header, got 6 bytes to the end"),
        (bytes(500), "500 bytes that cannot be read as one: expected a template name of 1 to 255 bytes, got 0"),
        (b.ima_ng("/y", b"")[:-1], "that cannot be read as one: expected at most 50 bytes of template data, got 51"),
        (b"10 text " * 20, "160 bytes that"),
    ],
)
def test_the_rest_of_a_binary_log_is_reported_after_its_entries(tmp_path: Path, rest: bytes, said_of_it: str) -> None:
    log = b.ima_ng("/x", b"") + b.ima_ng("4026532981", b"")
    (tmp_path / "log").write_bytes(log + rest)
    found = said(tmp_path / "log")
    assert found["logs"][0]["entries"] == 2
    assert [one["name"] for one in found["lines"]] == ["4026532981"]
    (first, *_) = found["findings"]
    assert first["kind"] == "malformed"
    assert first["where"] == f"{tmp_path / 'log'}: byte {len(log)}, after 2 entries"
    assert said_of_it in first["got"]
    assert run(tmp_path / "log").exit_code == 1


def test_a_binary_log_without_one_entry_is_malformed(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b.ima_ng("/y", b"")[:-1])
    done = run(tmp_path / "log")
    assert done.exit_code == 4
    assert "not from a screen" in done.output


def test_files_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(bytes(100))
    monkeypatch.setattr(reading, "TEXT_MAX", 99)
    monkeypatch.setattr(reading, "LINES_MAX", 9)
    (tmp_path / "many").write_bytes(b"\n" * 10)
    for name in ("fifo", "large", "many", "", "absent"):
        done = run(tmp_path / name)
        assert done.exit_code == 2
        assert "Error: " in done.output


def test_a_file_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with CliRunner().isolation():
        done = CliRunner().invoke(semantics, [str(SLIDES[0])])
    assert done.exit_code == 2
    assert "Permission denied" in done.output


def test_damage_alone_is_something_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first damaged lines are repaired; the work for a text of nothing else has a bound."""
    monkeypatch.setattr(reading, "_REPAIRS", 1)
    good = next(line for line in SLIDES[1].read_text().splitlines() if line.endswith("/usr/bin/id"))
    (tmp_path / "log").write_text(f"{good[:-1]}\n" * 2)
    assert run(tmp_path / "log").exit_code == 1
    found = said(tmp_path / "log")
    assert [one["repair"] is None for one in found["logs"][0]["damaged_lines"]] == [False, True]
    assert (found["logs"][0]["entries"], found["findings"]) == (2, [])
