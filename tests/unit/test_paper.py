"""The paper's files: the same data, the same bytes; every slide beside live logs; hostile text stays text."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from testbed import rundir
from testbed.analysis.paper import compared, evaluated, live, material, paired, paper, slides, typeset
from testbed.analysis.paper.compared import SlideComparison
from testbed.analysis.paper.live import LiveLog
from testbed.analysis.paper.slides import BesideSlide, LineState, Pick, SlideListing
from testbed.analysis.paper.typeset import PaperTable
from testbed.attest.log.rules import Rule
from testbed.cli import main
from testbed.errors import EvidenceError, SpecError
from testbed.rundir import Campaign, load

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results/reference-paper"
HOSTILE = "<script>alert(1)</script> | `x` \\input{/etc/passwd} $a_b^c$ %\u202e [a](b) & #~{\u2028"


@pytest.fixture(scope="module")
def listings() -> tuple[SlideListing, ...]:
    return slides.read(ROOT / "tests/golden/slides")


@pytest.fixture(scope="module")
def logs() -> dict[str, LiveLog]:
    return live.logs(load(Campaign(path=REFERENCE)))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for the small reference data alone."""
    output = tmp_path_factory.mktemp("paper") / "out"
    done = CliRunner().invoke(main, ["paper", str(REFERENCE), "--output", str(output)])
    assert done.exit_code == 0, done.output
    assert "do not hold" in done.output
    assert done.output.rstrip().endswith("paper.md")
    return output


def test_the_listings_say_what_the_slides_bytes_show(listings: tuple[SlideListing, ...]) -> None:
    counts = {one.slide.name: (len(one.lines), one.damaged) for one in listings}
    assert counts == {
        "host-and-container-in-one-log": (20, 4),
        "namespaced-files": (25, 4),
        "container-files-unreadable": (36, 36),
        "image-digest": (10, 2),
    }
    by_name = {one.slide.name: one for one in listings}
    bits = [(line.rule, line.bits, line.bound) for line in by_name["namespaced-files"].lines if line.namespaced]
    assert bits.count((Rule.PROTOTYPE_FILE, 64, False)) == 6
    assert bits.count((Rule.PROTOTYPE_FILE, 0, False)) == 1
    assert bits.count((Rule.UNKNOWN, None, False)) == 11
    (image,) = [line for line in by_name["image-digest"].lines if line.namespaced]
    assert (image.rule, image.bits) == (Rule.PROTOTYPE_IMAGE, 0)
    assert list(slides.shared_digests(listings).values()) == [frozenset({"4026532423", "4026532896"})]
    assert by_name["container-files-unreadable"].states == {LineState.NOT_READ: 36}


def test_the_listings_text_is_that_of_the_slides(listings: tuple[SlideListing, ...]) -> None:
    for one in listings:
        assert one.text == (ROOT / f"tests/golden/slides/{one.slide.name}.txt").read_text().rstrip("\n")
        lines = one.text.splitlines()
        assert all(line.text == lines[line.number - 1] for line in one.lines)


def test_a_missing_listing_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"host-and-container-in-one-log\.txt: no such file"):
        slides.read(tmp_path)


def test_every_measurer_that_stands_beside_a_slide_has_a_live_log(logs: dict[str, LiveLog]) -> None:
    beside = {beside.measurer for slide in slides.SLIDES for beside in slide.beside}
    assert beside <= logs.keys()
    judgements = {name: str(log.judgement) for name, log in logs.items()}
    assert judgements["prototype-file"] == judgements["prototype-image"] == "untrusted"
    assert judgements["container-file"] == judgements["container-image"] == "trusted"
    assert logs["prototype-image"].kinds == ("no-content", "weak-binding")


def test_picked_entries_are_those_of_one_container(logs: dict[str, LiveLog]) -> None:
    log = logs["container-image"]
    mine = log.picked(Pick.CONTAINER, 99)
    assert {one.entry.container for one in mine} == {"1", None}
    assert {one.rule for one in mine} == {"ctr-start", "ctr-image", "ctr-launch", "ctr-file"}
    assert [one.entry.number for one in mine] == sorted(one.entry.number for one in mine)
    assert log.picked(Pick.LAST, 3) == log.entries[-3:]
    assert len(logs["prototype-file"].picked(Pick.MEASURER, 99)) == 20
    assert {one.bits for one in logs["prototype-file"].measured} == {64}
    assert logs["none"].picked(Pick.CONTAINER, 9) == ()


def test_the_page_has_every_slide_beside_ours(drawn: Path) -> None:
    text = (drawn / "paper.md").read_text()
    for slide in slides.SLIDES:
        section = text.partition(f"### {slide.title}\n")[2].partition("\n### ")[0]
        assert slide.says in section
        for beside in slide.beside:
            assert f"#### {beside.measurer}: {beside.why}" in section
            assert "There is no log" not in section
    assert "SHA-256" not in text.partition("## Claims")[0]
    assert "64 bits of the content bound, namespace not bound" in text
    assert "0 bits of the content bound" in text
    assert "36 of 36 lines damaged" in text


def test_the_same_files_stand_beside_each_other(listings: tuple[SlideListing, ...], logs: dict[str, LiveLog]) -> None:
    rows = {row[0]: row[1:] for row in paired.table(listings, logs).rows}
    assert len(rows) == 18
    slide, rule, ours = rows["libc.so"]
    assert slide.endswith(": 64 bits, container not bound")
    assert rule.endswith(": 64 bits, container not bound")
    assert ours.endswith(": 256 bits, container bound")
    assert rows["bash"][0].endswith(": rule unknown")
    assert rows["libtinfo.so"][0].endswith(": 0 bits, container not bound")
    assert rows["hello"][1:] == ("not executed", "not executed")
    # The live rule gives the digest that is printed on the slide: that of eight zero bytes.
    assert rows[paired.IMAGE][0] == rows[paired.IMAGE][1] == "af5570f5a1810b7a: 0 bits, container not bound"
    assert "the whole tree" in rows[paired.IMAGE][2]
    assert {cell for row in paired.table(listings, {}).rows for cell in row[2:]} == {"not executed"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/lib64/libpcre2-8.so.0.11.2", "libpcre2-8.so"),
        ("/usr/lib64/libc.so.6", "libc.so"),
        ("/usr/bin/bash", "bash"),
        ("/lib/libx.so", "libx.so"),
        ("", ""),
    ],
)
def test_a_library_is_the_same_in_another_version(path: str, name: str) -> None:
    assert paired.stem(path) == name


def test_what_the_data_does_not_have_is_said(drawn: Path) -> None:
    text = (drawn / "paper.md").read_text()
    assert "*Where the added instructions go*: not drawn" in text
    assert "no campaign of overhead is here" in text
    found = json.loads((drawn / "claims.json").read_text())
    by_id = {one["id"]: one for one in found["claims"]}
    assert by_id["start-file"]["verdict"] == "cannot be judged from this data"
    assert by_id["live-file-bits"]["verdict"] == "holds"


def test_every_picture_and_link_of_the_page_exists(drawn: Path) -> None:
    text = (drawn / "paper.md").read_text()
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert {"binding.svg", "paper/overhead.svg", "paper/entries.svg", "paper/correctness.svg"} <= set(pictures)
    assert [name for name in pictures if not (drawn / name).is_file()] == []
    for picture in pictures:
        assert (drawn / picture).with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_the_same_data_gives_the_same_bytes_without_a_date(drawn: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert CliRunner().invoke(main, ["paper", str(REFERENCE), "--output", str(again)]).exit_code == 0
    names = sorted(str(path.relative_to(drawn)) for path in drawn.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(again)) for path in again.rglob("*") if path.is_file())
    assert [name for name in names if (drawn / name).read_bytes() != (again / name).read_bytes()] == []
    for path in drawn.rglob("*.pdf"):
        assert b"CreationDate" not in path.read_bytes()
    for path in drawn.rglob("*.svg"):
        assert b"<dc:date>" not in path.read_bytes()


def test_latex_tables_are_balanced(drawn: Path) -> None:
    made = sorted(drawn.rglob("*.tex"))
    assert len(made) >= 10
    for path in made:
        text = path.read_text()
        assert text.isascii()
        begun, ended = (sorted(re.findall(rf"\\{word}\{{(\w+)\}}", text)) for word in ("begin", "end"))
        assert begun == ended
        assert "\\toprule" in text
        assert "\\caption{" in text
        plain = text.replace(r"\{", "").replace(r"\}", "")
        assert plain.count("{") == plain.count("}")
        (columns,) = re.findall(r"\\begin\{(?:tabular|longtable)\}\{(.*)\}$", text, re.MULTILINE)
        count = len(re.sub(r">\{\\raggedright\\arraybackslash\}p\{[0-9.]+\\linewidth\}", "p", columns))
        rows = [line for line in text.splitlines() if line.endswith(r" \\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {count - 1}


def _hostile() -> PaperTable:
    return PaperTable(name="x", caption=HOSTILE, header=("a", "b"), rows=((HOSTILE, HOSTILE),), code=frozenset({1}))


def test_hostile_text_is_text_in_markdown() -> None:
    text = "\n".join(typeset.as_markdown(_hostile()))
    outside = re.sub(r"``.*?``", "", text)
    assert "<script" not in outside
    assert "&lt;script&gt;" in outside
    assert "[a](b)" not in outside
    # The one bar in a cell is escaped: the row has two cells.
    row = text.splitlines()[2]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


def test_hostile_text_is_text_in_latex() -> None:
    text = "\n".join(typeset.as_latex(_hostile()))
    assert text.isascii()
    assert r"\input" not in text
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    assert r"\$a\_b\textasciicircum{}c\$" in text
    assert r"\texttt{U+202E}" in text


def test_a_long_table_goes_over_pages() -> None:
    rows = tuple((f"{number}",) for number in range(60))
    lines = typeset.as_latex(PaperTable(name="x", caption="c", header=("n",), rows=rows, right=frozenset({0})))
    assert "\\begin{longtable}{r}" in lines
    assert "\\end{longtable}" in lines


def test_hostile_entries_stay_in_their_cells(listings: tuple[SlideListing, ...], logs: dict[str, LiveLog]) -> None:
    log = logs["container-file"]
    one = log.measured[0]
    bad = dataclasses.replace(one, entry=dataclasses.replace(one.entry, says=HOSTILE, name=HOSTILE, container="1"))
    hostile = dataclasses.replace(log, entries=(bad,))
    beside = BesideSlide(measurer="container-file", pick=Pick.CONTAINER, why="a test")
    table = compared.live_table(SlideComparison(listing=listings[0], shows=(), beside=((beside, hostile),)), 0)
    assert table is not None
    (row,) = [line for line in typeset.as_markdown(table) if "attested" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == len(table.header) + 1


def test_without_a_log_a_listing_stands_alone(listings: tuple[SlideListing, ...]) -> None:
    (first, *_) = compared.compare(listings, {})
    assert compared.live_table(first, 0) is None
    (row, *_) = compared.summary_table([first]).rows
    assert row[3] == "ima-exec: no log in this data; container-file: no log in this data"


def test_evidence_that_is_malformed_has_no_entries(tmp_path: Path) -> None:
    shutil.copytree(REFERENCE, tmp_path / "c")
    campaign = load(Campaign(path=tmp_path / "c"))
    run = live.logs(campaign)["container-file"].run
    (tmp_path / "c/runs" / run / "evidence/ima.bin").write_bytes(b"\x0b\0\0\0 not a log")
    log = live.logs(load(Campaign(path=tmp_path / "c")))["container-file"]
    assert (log.entries, str(log.judgement)) == ((), "malformed")


def test_entries_of_a_start_are_those_of_the_reference() -> None:
    known = evaluated.entries(material.campaign_data(load(Campaign(path=REFERENCE))).tables)
    later = known[~known["first"]].set_index("measurer")["entries"]
    assert later.to_dict() == {
        "none": 0,
        "none2": 0,
        "ima-exec": 0,
        "prototype-file": 0,
        "prototype-image": 0,
        "container-file": 21,
        "container-image": 22,
    }


def test_the_newest_campaign_of_each_experiment_is_taken(tmp_path: Path) -> None:
    for name in ("old", "new", "reference-paper"):
        shutil.copytree(REFERENCE, tmp_path / "r" / name)
    for name in ("old", "new"):
        (tmp_path / "r" / name / "reference.json").unlink()
        plan = rundir.read_object(tmp_path / "r" / name / "plan.json") | {"campaign": f"paper-icount-{name}"}
        rundir.write_json(tmp_path / "r" / name / "plan.json", plan)
    done = CliRunner().invoke(main, ["paper", "--newest", str(tmp_path / "r"), "-o", str(tmp_path / "o")])
    assert done.exit_code == 0, done.output
    assert "Made from `paper-icount-new` (" in (tmp_path / "o/paper.md").read_text()


def test_wrong_arguments(tmp_path: Path) -> None:
    both = CliRunner().invoke(main, ["paper", str(REFERENCE), "--newest", str(tmp_path)])
    assert (both.exit_code, "not both" in both.stderr) == (2, True)
    none = CliRunner().invoke(main, ["paper", "--newest", str(tmp_path)])
    assert (none.exit_code, "no campaign of overhead, paper" in none.stderr) == (2, True)
    loaded = load(Campaign(path=REFERENCE))
    with pytest.raises(SpecError, match="two campaigns of experiment 'paper'"):
        material.gather([loaded, loaded], ())


@pytest.mark.parametrize("name", ["../../x", "a/b", "A", "x" * 101, "."])
def test_a_campaign_cannot_choose_where_files_are_written(name: str) -> None:
    loaded = load(Campaign(path=REFERENCE))
    named = dataclasses.replace(loaded, facts={"experiment": {"name": name}})
    with pytest.raises(EvidenceError, match="expected a name of an experiment file"):
        material.experiment_of(named)
    cells = tuple(dataclasses.replace(cell, workload=name) for cell in loaded.plan.cells)
    odd = dataclasses.replace(loaded, plan=dataclasses.replace(loaded.plan, cells=cells))
    with pytest.raises(EvidenceError, match="expected a name of an experiment file"):
        material.campaign_data(odd)


def test_a_claim_that_does_not_hold_is_the_exit_status(tmp_path: Path) -> None:
    stated = (ROOT / "claims.toml").read_text().replace("at_most = 64", "at_most = 63")
    (tmp_path / "claims.toml").write_text(stated)
    words = ["paper", str(REFERENCE), "-o", str(tmp_path / "o"), "--claims", str(tmp_path / "claims.toml")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "does not hold: live-file-bits" in done.output


def test_the_reference_data_of_the_paper_is_small_and_whole() -> None:
    size = sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file() and "figures" not in path.parts)
    assert size <= 2_000_000
    loaded = load(Campaign(path=REFERENCE))
    arms = {cell.measurer for cell in loaded.plan.cells}
    assert {"prototype-file", "prototype-image", "container-file", "container-image", "ima-exec"} <= arms
    assert live.logs(loaded).keys() == arms


def test_a_paper_of_nothing_says_so(tmp_path: Path) -> None:
    written = paper.write(material.PaperData(campaigns={}, listings=()), (), tmp_path)
    assert written.exit_status == 0
    assert "Made from no campaign" in written.page.read_text()
