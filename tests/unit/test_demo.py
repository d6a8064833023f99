"""The demo in a machine that is not there, judged by the real verifier: acts, messages, statuses, what is left."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import fake_demo
import pytest
from click.testing import CliRunner
from fake_demo import FakeLab, Faults
from rich.console import Console

from testbed import cli
from testbed.attest.finding import Finding, FindingKind
from testbed.attest.verdict import Judgement, Verdict
from testbed.errors import DeadlineExceeded, DeployError
from testbed.lab import attestation, block
from testbed.lab.block import Parts
from testbed.lab.demo import acts, live, picture, play, scene, whole, words
from testbed.lab.demo.acts import ACTS, Deed
from testbed.lab.demo.lines import Lines
from testbed.lab.demo.panels import Panels
from testbed.lab.demo.show import Performance, Show

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def played(tmp_path: Path, faults: Faults | None = None, show: Show | None = None) -> Performance:
    lab = FakeLab(faults or Faults())
    with lab.boot(None, tmp_path) as machine:
        ready, image = fake_demo.ready(machine), fake_demo.image(tmp_path)
        return play.perform(fake_demo.as_lab(lab), ready, image, tmp_path, show or Lines(io.StringIO()))


def test_each_verdict_turns_as_it_must(tmp_path: Path) -> None:
    out = io.StringIO()
    performance = played(tmp_path, show=Lines(out))
    assert performance.problems == ()
    assert performance.honest.verdict.judgement is Judgement.TRUSTED
    assert [one.verdict.judgement.value for one in performance.acts] == [
        "untrusted",
        "untrusted",
        "trusted",
        "untrusted",
    ]
    found = [sorted(one.verdict.kinds) for one in performance.acts]
    assert found == [
        ["violation", "wrong-digest"],
        ["no-measurement", "replay-mismatch"],
        [],
        ["no-measurement", "replay-mismatch"],
    ]
    words_said = re.findall(r"VERDICT: (\w+)", out.getvalue())
    assert words_said == ["trusted", "untrusted", "untrusted", "trusted", "untrusted"]


def test_each_act_has_a_sentence_before_and_one_after(tmp_path: Path) -> None:
    out = io.StringIO()
    played(tmp_path, show=Lines(out))
    said = out.getvalue()
    places = [said.index(text) for act in ACTS for text in (act.title, act.before, act.after)]
    assert places == sorted(places)


def test_lines_are_plain(tmp_path: Path) -> None:
    out = io.StringIO()
    show = Lines(out)
    show.ending(played(tmp_path, Faults(name=b"/usr/bin/\x1b[31m[bold]sort"), show))
    assert CONTROL.search(out.getvalue()) is None
    assert "/usr/bin/\\x1b[31m[bold]sort" in out.getvalue()


def test_the_entries_are_seen_as_they_arrive_with_their_container(tmp_path: Path) -> None:
    arrivals = played(tmp_path).arrivals
    assert [one.entry.number for one in arrivals] == list(range(1, 19))
    assert [one.entry.container for one in arrivals] == [None, None, *["1"] * 8, *["2"] * 8]
    assert {one.seconds for one in arrivals} != {arrivals[0].seconds}


def test_the_deleted_entry_is_that_of_the_program(tmp_path: Path) -> None:
    second = played(tmp_path).acts[1]
    assert len(second.deed.seen) == 1
    assert "container 1, ctr-file, /usr/bin/sha256sum, executed" in second.deed.seen[0]


def test_what_the_tpm_says_is_shown_without_the_lines_of_its_library(tmp_path: Path) -> None:
    seen = played(tmp_path).acts[2].deed.seen
    assert "  ERROR: Could not reset PCR index: 11" in seen
    assert "exit status 1" in seen
    assert not any(":esys:" in line for line in seen)


@pytest.mark.parametrize(
    ("faults", "title", "complaint"),
    [
        (
            Faults(silent=True),
            ACTS[0].title,
            "expected the verdict untrusted with violation, wrong-digest, got trusted",
        ),
        (Faults(resets=True), ACTS[2].title, "expected that the TPM refuses to reset PCR 11, but it did not"),
        (Faults(extends=False), ACTS[3].title, "expected another value of PCR 11, got the same"),
        (Faults(name=b"/usr/bin/evil"), "", "expected a trusted machine before the acts, got untrusted"),
        (Faults(tampered=True), "", "expected a trusted machine before the acts, got untrusted"),
    ],
)
def test_a_verdict_that_does_not_turn_is_said(tmp_path: Path, faults: Faults, title: str, complaint: str) -> None:
    out = io.StringIO()
    show = Lines(out)
    performance = played(tmp_path, faults, show)
    show.ending(performance)
    (problem,) = performance.problems
    assert problem.startswith(f"{title}: {complaint}" if title else complaint)
    assert f"NOT AS EXPECTED: {problem}" in out.getvalue()
    if title:
        assert next(act.after for act in ACTS if act.title == title) not in out.getvalue()
    else:
        assert performance.acts == ()


def test_malformed_evidence_is_no_verdict_that_turned() -> None:
    bad = Verdict(findings=(Finding(kind=FindingKind.MALFORMED, where="x", expected="y", got="z"),))
    for act in ACTS:
        assert "got malformed: malformed" in acts.problem(act, Deed(seen=()), bad)


def test_containers_that_do_not_start_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="could not start the containers: crun: no such image"):
        played(tmp_path, Faults(starts=False))


def test_containers_that_do_not_end_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "_LIVE_SECONDS", 0.01)
    with pytest.raises(DeadlineExceeded, match=r"2 containers were to finish within 0\.01 s, 0 did"):
        played(tmp_path, Faults(ends=False))


@pytest.fixture
def booting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Replace what needs a host; return what prepares a lab with faults, and the parts of its machine."""

    def prepare(faults: Faults) -> tuple[FakeLab, Parts]:
        lab = FakeLab(faults)

        @contextmanager
        def opened(_: str | None) -> Iterator[FakeLab]:
            yield lab

        parts = Parts(
            machine=cast("Any", fake_demo.SPEC), bundle=cast("Any", None), images=(fake_demo.image(tmp_path),)
        )
        monkeypatch.setattr("testbed.lab.machines.lab.open_lab", opened)
        monkeypatch.setattr(block, "deploy", lambda *_: None)
        monkeypatch.setattr(attestation, "enrol", lambda *_: fake_demo.AK)
        monkeypatch.setattr(whole, "build", lambda *_: parts)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        return lab, parts

    return prepare


@pytest.mark.parametrize(("faults", "status"), [(Faults(), 0), (Faults(extends=False), 1), (Faults(starts=False), 3)])
def test_the_exit_status_is_that_of_the_verdicts(booting: Any, faults: Faults, status: int) -> None:
    lab, _ = booting(faults)
    done = CliRunner().invoke(cli.main, ["demo", "--script"])
    assert done.exit_code == status, done.output
    assert lab.running == 0
    assert CONTROL.search(done.stdout) is None


def test_without_a_terminal_no_key_is_waited_for(booting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    booting(Faults())
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it waits for a key"))
    done = CliRunner().invoke(cli.main, ["demo"])
    assert done.exit_code == 0
    assert "== Act 4" in done.stdout


def test_ctrl_c_at_any_command_leaves_no_machine_and_no_file(booting: Any, tmp_path: Path) -> None:
    lab, _ = booting(Faults())
    assert CliRunner().invoke(cli.main, ["demo"]).exit_code == 0
    total = len(lab.commands)
    for number in range(1, total + 1):
        lab, _ = booting(Faults(interrupted=number))
        assert CliRunner().invoke(cli.main, ["demo"]).exit_code == 130
        assert lab.running == 0
    assert lab.started == 4
    assert [path.name for path in tmp_path.iterdir()] == ["tools.oci.tar"]


def test_a_recording_is_written_beside(booting: Any, tmp_path: Path) -> None:
    booting(Faults())
    done = CliRunner().invoke(cli.main, ["demo", "--script", "--record", str(tmp_path / "x.svg")])
    assert done.exit_code == 0
    assert (tmp_path / "x.svg").read_text().startswith("<svg")


def test_a_recording_that_cannot_be_written_is_an_error_before_anything_boots(booting: Any, tmp_path: Path) -> None:
    lab, _ = booting(Faults())
    done = CliRunner().invoke(cli.main, ["demo", "--script", "--record", str(tmp_path / "missing" / "x.svg")])
    assert done.exit_code == 2
    assert lab.started == 0


def test_the_recording_is_small_of_one_size_and_loads_nothing(tmp_path: Path) -> None:
    texts = []
    for number in range(2):
        (tmp_path / f"{number}").mkdir()
        texts.append(picture.svg(played(tmp_path / f"{number}")))
        assert len(texts[-1].encode()) <= picture.SVG_MAX
        assert "url(" not in texts[-1].replace("url(#", "")
        assert "@font-face" not in texts[-1]
    boxes = [ET.fromstring(text).attrib["viewBox"] for text in texts]
    assert boxes[0] == boxes[1]


def test_the_committed_recording_shows_all_acts() -> None:
    path = Path(__file__).parents[2] / "docs" / "demo.svg"
    text = path.read_text(encoding="utf-8").replace("&#160;", " ")
    assert len(text) <= picture.SVG_MAX
    assert [number for number in "1234" if f"{number}. " not in text] == []
    for word in ("TRUSTED", "untrusted", "violation (2)", "wrong-digest", "replay-mismatch"):
        assert word in text


def panels(**more: Any) -> tuple[Panels, io.StringIO]:
    out = io.StringIO()
    return Panels(Console(file=out, force_terminal=True, width=100, legacy_windows=False), **more), out


def test_a_terminal_shows_panels_and_waits_between_the_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pressed: list[None] = []
    monkeypatch.setattr("builtins.input", lambda *_: pressed.append(None))
    show, out = panels(paused=True)
    show.ending(played(tmp_path, show=show))
    assert len(pressed) == 1 + len(ACTS)
    for text in ("press Enter to go on", "TRUSTED", "UNTRUSTED", "what was done", "Could not reset PCR index"):
        assert text in out.getvalue()


def test_a_terminal_is_not_controlled_by_the_names_of_files(tmp_path: Path) -> None:
    show, out = panels(paused=False)
    show.ending(played(tmp_path, Faults(name=b"/usr/bin/\x1b[31m[bold]sort"), show))
    assert "/usr/bin/\\x1b[31m[bold]sort" in out.getvalue()


def test_a_terminal_with_no_pause_or_without_keys_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object) -> None:
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    for number, paused in enumerate((False, True)):
        (tmp_path / f"{number}").mkdir()
        show, out = panels(paused=paused)
        assert played(tmp_path / f"{number}", show=show).problems == ()
        assert out.getvalue().count("press Enter") == paused


def test_words_say_what_a_verdict_means() -> None:
    one = Finding(kind=FindingKind.VIOLATION, where="a", expected="b", got="c", container="1")
    odd = Finding(kind=FindingKind.QUOTE_MAGIC, where="a", expected="b", got="c")
    left = Finding(kind=FindingKind.UNATTESTED, where="a", expected="b", got="c")
    verdict = Verdict(findings=(one, odd, left), omitted={(FindingKind.VIOLATION, "1"): 4})
    titles = [reason.title for reason in words.reasons(verdict)]
    assert titles == ["violation (5)", "quote-magic"]
    assert words.kinds(verdict) == "untrusted (violation, quote-magic)"
    assert words.why(verdict, "R.").startswith("R. A file was opened for writing")
    assert words.why(Verdict(findings=())) == "The log leads to the signed PCR values."
    assert words.extent(verdict) == ("log: 0 entries, of which the quote covers 0",)


def test_following_asks_again_until_nothing_more_arrives() -> None:
    guest = fake_demo.FakeGuest(faults=Faults())
    scene.start(guest, "/layer")
    asked: list[None] = []
    got = live.follow(
        guest, lambda entry: live.path_of(entry) == scene.WAITING, 2, check=lambda: asked.append(None), timeout=60
    )
    assert [one.entry.kind for one in got].count("ctr-start") == 2
    assert len(asked) >= 4
