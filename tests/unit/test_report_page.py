"""The report page as it is written: its parts are there, its links lead somewhere, and no name can become HTML."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest
from fake_campaign import RUNGS, WORKLOADS, build
from lxml import html
from markupsafe import Markup
from matplotlib.figure import Figure
from page_campaign import HOSTILE, MEASURING, PLAIN, UNQUOTED, Names, pages, write, written
from test_report import _judge

from testbed.analysis.figures import canvas
from testbed.analysis.judged import attacked, judging
from testbed.analysis.page import answer, environment, logs, names, numbers, prose, svg
from testbed.analysis.report import inputs, report
from testbed.rundir import Campaign, load

REFERENCE = Path(__file__).parents[2] / "results/reference"
MOST = 5_000_000


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("hostile"), HOSTILE)


@pytest.fixture(scope="module", params=["plain", "hostile"])
def front(request: pytest.FixtureRequest) -> Path:
    path = request.getfixturevalue(request.param)
    assert isinstance(path, Path)
    return path


def _parsed(path: Path) -> html.HtmlElement:
    return html.document_fromstring(path.read_bytes(), parser=html.HTMLParser(encoding="utf-8"))


def _runs(front: Path) -> dict[str, html.HtmlElement]:
    """Return the page of one run of each measurer, of block 0."""
    found = {}
    for row in _parsed(front).xpath("//table[@id='matrix']/tbody/tr"):
        link = row.xpath(".//a[starts-with(@aria-label, 'block 0')]/@href")[0]
        found[row.get("data-measurer", "")] = _parsed(front.parent / link)
    return found


def _text(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


# No element, no attribute, no link comes from a name


def test_hostile_names_make_the_same_elements_with_the_same_attributes(plain: Path, hostile: Path) -> None:
    of_plain, of_hostile = _runs(plain), _runs(hostile)
    for measurer, page in of_plain.items():
        shapes = [
            [(str(one.tag), tuple(one.attrib)) for one in tree.iter() if str(one.tag) != "details" and not _whole(one)]
            for tree in (page, of_hostile[measurer])
        ]
        assert Counter(shapes[0]) == Counter(shapes[1])


def _whole(element: html.HtmlElement) -> bool:
    """Whether an element belongs to the long form of an id, which only a long id has."""
    return any(one.get("class") == "more" for one in (element, *element.iterancestors()))


# In the order in which a page has them: the page, tables and forms, what is folded, figures.
KNOWN = """
html head meta link title style script body a header div strong nav button main footer h1 h2 h3 p section ul li span em
table thead tbody tr th td b form label select option output input dl dt dd code pre br
details summary figure figcaption svg g path use defs clippath rect text circle pattern tspan
"""


def test_only_known_elements_and_no_handler(front: Path) -> None:
    for path, page in pages(front):
        tags = {str(one.tag) for one in page.iter() if isinstance(one.tag, str)}
        assert tags <= set(KNOWN.split()), path
        attributes = {name for one in page.iter() if isinstance(one.tag, str) for name in one.attrib}
        assert [name for name in attributes if name.startswith("on") or name in ("src", "srcdoc", "action")] == []
        assert len(page.xpath("//script")) == len(page.xpath("//style")) == 1


def test_no_character_that_is_not_seen(hostile: Path) -> None:
    for path, _ in pages(hostile):
        text = path.read_text(encoding="utf-8")
        assert {one for one in text if not one.isprintable() and one != "\n"} == set(), path


def test_hostile_names_are_shown_as_text(hostile: Path) -> None:
    pages_ = _runs(hostile)
    page = _text(pages_[MEASURING])
    assert "/tmp/</code><script>alert('path')</script>\\n\\u202e<img src=x onerror=alert(1)>-3" in page
    assert "\"onmouseover=alert('id')" in page
    assert "javascript:alert('image')\\u2066" in page
    assert "\\x00\\r\\n# x" in page
    assert "--><style>*{display:none}</style><!--\\x1b[31m" in page
    assert "</p><a href=javascript:alert(1)>x</a>\\u200f`" in _text(pages_["ima-exec"])
    index = _text(_parsed(hostile))
    assert HOSTILE.workload in index
    assert "'\"><svg onload=alert(1)>&lt;`|**x**" in index


@pytest.mark.parametrize("name", ["a/b", "..", "", "a b", "<x>", "\udcff", "a" * 300, "x\n"])
def test_a_name_that_is_no_file_name_becomes_one(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9.~_-]{1,160}", names.file_of(name))
    assert "/" not in names.beside(name)


# Every page is whole


def test_ids_are_unique_and_links_lead_somewhere(front: Path) -> None:
    known = {path: page.xpath("//@id") for path, page in pages(front)}
    assert [path for path, ids in known.items() if len(ids) != len(set(ids))] == []
    for path, page in pages(front):
        for link in map(str, page.xpath("//@href")):
            if link == "data:,":
                continue
            where, _, goal = unquote(link).partition("#")
            to = (path.parent / where).resolve() if where else path
            assert to in known, (path, link)
            assert not goal or goal in known[to], (path, link)
        for reference in page.xpath("//@aria-labelledby"):
            assert reference in known[path]


def test_a_page_lets_its_own_script_run_and_nothing_else(plain: Path) -> None:
    for _, page in pages(plain):
        (policy,) = page.xpath("//meta[@http-equiv]/@content")
        assert policy.startswith("default-src 'none'; ")
        assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)
        assert not re.search(r"https?:(?!//www\.w3\.org)", html.tostring(page, encoding="unicode"))


def test_each_planned_run_has_a_page(plain: Path) -> None:
    marks = _parsed(plain).xpath("//table[@id='matrix']//a/@href")
    assert len(marks) == len(set(marks)) == 10
    assert len(list((plain.parent / "runs").iterdir())) == 10


def test_a_second_report_replaces_the_pages(tmp_path: Path) -> None:
    front = write(tmp_path)
    left = front.parent / "runs/left.html"
    left.write_text("of a run that is gone")
    assert report.write(load(Campaign(path=front.parents[1])), _judge()).page == front
    assert not left.exists()
    assert sorted(path.name for path in front.parent.iterdir()) == ["index.html", "runs"]


# What the front page says


def test_the_front_page_begins_with_the_result(plain: Path) -> None:
    page = _parsed(plain)
    (first, *_) = page.xpath("//ul[@class='strip']/li")
    assert _text(first).startswith("✗ Correctness NOT OK: 8 of 9 judged runs are as expected; 1 workloads failed; ")
    assert "No events went unmeasured" in _text(page)


def test_a_campaign_without_starts_and_prices_answers_with_its_workloads(plain: Path) -> None:
    (line,) = _parsed(plain).xpath("//table[@class='answer']/tbody/tr")
    assert _text(line).startswith("An iteration of tools")
    assert "too few blocks for an interval" in _text(line)


def test_the_matrix_says_each_verdict_in_a_word_and_not_by_colour_alone(plain: Path) -> None:
    rows = {row.get("data-measurer"): row for row in _parsed(plain).xpath("//table[@id='matrix']/tbody/tr")}
    assert {name: row.get("data-verdict") for name, row in rows.items()} == {
        "none": "ok",
        "none2": "ok",
        "hooks-only": "ok",
        "ima-exec": "failed",
        MEASURING: "unexpected",
    }
    labels = [str(label) for label in rows[MEASURING].xpath(".//a/@aria-label")]
    assert labels == ["block 0: unexpected findings; with its log", "block 1: as expected; with its log"]
    assert rows["hooks-only"].xpath(".//a/@aria-label")[0] == "block 0: as expected", "it has no log"
    assert [_text(mark) for mark in rows[MEASURING].xpath(".//a")] == ["✗", "✓"]
    assert rows["ima-exec"].xpath(".//a/@aria-label")[0] == "block 0: the run failed: workload-failed"


def test_filters_offer_what_occurs(plain: Path) -> None:
    form = _parsed(plain).xpath("//form[@data-table='matrix']")[0]
    offered = {str(one.get("name")): one.xpath("./option/text()")[1:] for one in form.xpath(".//select")}
    assert offered["verdict"] == ["ok", "failed", "unexpected"]
    assert offered["measurer"] == ["none", "none2", "ima-exec", "hooks-only", MEASURING]
    assert list(offered) == ["measurer", "workload", "kernel", "runtime", "attack", "verdict"]


def test_marks_of_a_figure_say_their_numbers(plain: Path) -> None:
    figure, *_ = _parsed(plain).xpath("//figure")
    marks = figure.xpath(".//*[@role='img'][@tabindex='0']")
    labels = [str(mark.get("aria-label")) for mark in marks]
    assert [label.partition(":")[0] for label in labels] == [
        "tools, ima-exec",
        "tools, hooks-only",
        f"tools, {MEASURING}",
    ]
    assert re.match(r"tools, hooks-only: \+0\.1\d+ % \(too few blocks for an interval\); ", labels[1])
    assert [mark.xpath("string(./*[local-name()='title'])") for mark in marks] == labels


# What the page of a run says


def test_the_containers_of_a_run(plain: Path) -> None:
    (row,) = _runs(plain)[MEASURING].xpath("//section[@id='containers']//tbody/tr")
    cells = [_text(cell) for cell in row]
    assert cells[0] == "container 1"
    assert PLAIN.container in cells[1]
    assert cells[2].startswith("tools")
    assert cells[3] == f"entry 3: launched: {PLAIN.path} -c"
    assert cells[4:] == ["6", "untrusted", "1", "0"]


def test_a_container_that_no_log_names_is_still_listed(plain: Path) -> None:
    (row,) = _runs(plain)["hooks-only"].xpath("//section[@id='containers']//tbody/tr")
    assert _text(row[0]) == "log not here"


def test_findings_are_shown_in_full(plain: Path) -> None:
    (row,) = _runs(plain)[MEASURING].xpath("//section[@id='findings']//tbody/tr")
    assert [_text(cell) for cell in row] == ["ghost", "entry 5, PCR 11", "1", "no entry", "nothing"]


def test_a_log_shows_each_entry_with_its_container_and_whether_the_quote_covers_it(plain: Path) -> None:
    rows = _runs(plain)[MEASURING].xpath("//table[@id='log-table']/tbody/tr")
    assert [row.get("id") for row in rows] == [f"e{number}" for number in range(1, 10)]
    assert [row.get("data-cover") for row in rows] == ["attested"] * 7 + ["unattested"] * UNQUOTED
    assert [_text(row[2]) for row in rows] == ["none", *["container 1"] * 8]
    assert _text(rows[-1][5]) == "unattested"
    assert [row.get("class") for row in rows] == ["", *["k0"] * 6, *["k0 out"] * UNQUOTED]
    assert "sha256" in _text(rows[4][4])


def test_the_replay_chains_and_ends_at_the_quoted_value(plain: Path) -> None:
    page = _runs(plain)[MEASURING]
    steps = page.xpath("//details[@id='pcr11']//tbody/tr")
    values = [[_text(cell) for cell in step.xpath(".//code")] for step in steps]
    assert values[0][0] == "0" * 64
    assert [before for before, _, _ in values[1:]] == [after for _, _, after in values[:-1]]
    last = page.xpath("//a[text()='after entry 7']/@href")
    assert last == ["#s7"]
    assert "the quoted value" in _text(page.xpath("//tr[@id='s7']")[0])


def test_a_run_without_evidence_says_so(plain: Path) -> None:
    pages_ = _runs(plain)
    assert "No evidence was collected in this run." in _text(pages_["hooks-only"])
    assert not pages_["hooks-only"].xpath("//section[@id='log']")


def test_a_log_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    front = write(tmp_path)
    campaign = front.parents[1]
    for path in campaign.glob("runs/*/evidence/ima.bin"):
        path.write_bytes(path.read_bytes()[:-3])
    page = _runs(written(Campaign(path=campaign), PLAIN, 6))[MEASURING]
    assert "The log cannot be read further." in _text(page)
    assert len(page.xpath("//table[@id='log-table']/tbody/tr")) == 8


def test_a_long_log_has_several_pages(tmp_path: Path) -> None:
    files = 2 * logs.PART
    front = write(tmp_path, files=files, blocks=1)
    run = next(front.parent.glob("runs/*.log-2.html")).name.removesuffix(".log-2.html")
    parts = [_parsed(front.parent / names.page_of(run, number)) for number in (1, 2, 3)]
    counts = [len(part.xpath("//table[@id='log-table']/tbody/tr")) for part in parts]
    assert counts == [logs.PART, logs.PART, 3]
    assert parts[1].xpath("//a[@rel='next']/@href")[0] == f"{run}.log-3.html#log"
    assert parts[2].xpath("//a[@rel='prev']/@href")[0] == f"{run}.log-2.html#log"
    # The quote covers all but the last entries, so the value that it has is reached on the third page.
    number = files + 3 - UNQUOTED
    assert parts[0].xpath(f"//a[text()='after entry {number}']/@href") == [f"{run}.log-3.html#s{number}"]
    steps = parts[2].xpath("//details[@id='pcr11']//tbody/tr")
    assert _text(steps[0][1]) == _text(parts[1].xpath("//details[@id='pcr11']//tbody/tr")[-1][3])
    assert max(path.stat().st_size for path in front.parent.glob("runs/*")) < MOST


# Parts


def test_the_front_page_of_432_runs_is_small(tmp_path: Path) -> None:
    campaign = build(tmp_path, arms=RUNGS, workloads=WORKLOADS)
    front = report.write(load(campaign), _judge()).page
    assert len(list((front.parent / "runs").iterdir())) == 432
    assert front.stat().st_size < MOST


def test_the_reference_data_answer_what_a_start_an_exec_a_byte_and_a_request_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attacked, "attack", lambda *_: ())  # that takes longest, and costs nothing here
    campaign = Campaign(path=REFERENCE)
    material = inputs.gather(load(campaign), judging.judge_of(campaign))
    said = answer.answer(material.tables)
    assert said.arms == ("ima-exec", "hooks-only", "container-file", "container-image")
    costs = {line.what: dict(zip(said.arms, line.costs, strict=True)) for line in said.lines}
    found = {what: cost and cost.value for what, of_arm in costs.items() for cost in (of_arm["container-file"],)}
    assert found == {
        "A start of a known image": "+64.34 M",
        "The first start of an image": "+117.2 M",
        "An exec of exec-30": "+14.727 M",
        "An exec of exec-static": "+187.9 k",
        "A request of nginx, once it runs": "+706",
        "A transaction of postgres, once it runs": "\N{MINUS SIGN}32 k",
        "A request of redis, once it runs": "\N{MINUS SIGN}19",
        "An event of sysbench-cpu, once it runs": "+1.01 k",
        "A byte of a new file": "+31.689",
        "An exec or mapping of a known file": "+1.653 k",
    }
    bases = {line.what: line.base for line in said.lines}
    assert bases["A start of a known image"] == "13.56 M"
    remark = costs["A start of a known image"]["container-file"]
    assert remark is not None
    assert remark.remark == "+474.4 %"
    # An arm has the prices of the steps below it, and no price where none of its steps has one.
    assert costs["A byte of a new file"]["container-image"] == costs["A byte of a new file"]["container-file"]
    assert costs["A byte of a new file"]["hooks-only"] is None
    assert len(material.verdicts) == 6


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("+1.80 % [+1.75, +1.86]", ("+1.80 %", "[+1.75, +1.86]", "")),
        ("**+1.80 % [+1.75, +1.86]**", ("+1.80 %", "[+1.75, +1.86]", "")),
        (
            "\N{MINUS SIGN}0.9 % [\N{MINUS SIGN}1.3, +0.3] (inconclusive)",
            ("\N{MINUS SIGN}0.9 %", "[\N{MINUS SIGN}1.3, +0.3]", "inconclusive"),
        ),
        ("+7.56 [+7.49, +7.67] M instructions", ("+7.56 M instructions", "[+7.49, +7.67]", "")),
    ],
)
def test_a_number_is_divided(text: str, parts: tuple[str, str, str]) -> None:
    found = numbers.divide(text)
    assert found is not None
    assert (found.value, found.interval, found.remark) == parts


@pytest.mark.parametrize("text", ["a [b]", "+1", "[1, 2]", "`+1 [2]`", ""])
def test_other_text_is_not(text: str) -> None:
    assert numbers.divide(text) is None


def test_prose_is_only_what_the_report_writes() -> None:
    lines = [
        *("## Left out", "", "A `<b>` and **bold**, `` `|x` ``.", "", "### Part", "", "- one", "  - inner"),
        *("| a | `b` |", "| --- | --- |", "| x \\| y | +1.0 % [+0.9, +1.1] |", "", "```", "run <it>", "```"),
        *("<details><summary>more `x`</summary>", "", "<script>", "", "</details>", "![words](figures/starts.png)"),
    ]
    made = prose.html(lines, {"starts": Markup("<figure></figure>")})
    page = html.fragment_fromstring(str(made), create_parent="div")
    assert "Left out" not in page.text_content()
    assert [one.text for one in page.xpath(".//code")] == ["<b>", "`|x`", "b", "run <it>", "x"]
    assert [cell.text_content() for cell in page.xpath(".//tbody//td")] == ["x | y", "+1.0 % [+0.9, +1.1]"]
    assert page.xpath(".//tbody//td/@class") == ["n"]
    assert page.xpath("string(.//details/p)") == "<script>"
    assert len(page.xpath(".//figure")) == 1


def test_a_figure_within_a_page_has_ids_of_its_own_and_the_pages_colours() -> None:
    figure = Figure(figsize=(4, 3))
    ax = figure.subplots()
    (point,) = ax.plot([1], [2], "o", color="#0072B2", mfc="white")
    canvas.mark(point, 'a "<b>" & \u202e')
    (bar,) = ax.bar([1], [2], hatch="//", color="#56B4E9")
    canvas.mark(bar, "bar")
    canvas.say(figure, ["words below"])
    inline = svg.inline(figure, "one", "A figure")
    assert (inline.marks, inline.words) == (2, "words below")
    picture = str(inline.picture)
    assert "words below" not in picture
    assert set(re.findall(r'id="([^"]*)"', picture)) == set(re.findall(r'#(one-[^")]+)', picture))
    assert "var(--fig-blue)" in picture
    assert "#0072b2" not in picture.lower()
    page = html.fragment_fromstring(picture)
    assert set(page.xpath("//@aria-label")) == {"A figure", 'a "<b>" & \\u202e', "bar"}


@pytest.mark.parametrize(
    ("value", "shown"), [("a b", "a b"), ("a\u202eb", "a\\u202eb"), ("\n", "\\n"), ("\udcff", "\\udcff"), (3, 3)]
)
def test_what_is_not_seen_is_shown_as_an_escape(value: object, shown: object) -> None:
    assert environment.visible(value) == shown


def test_text_that_is_html_already_is_left_as_it_is() -> None:
    text = Markup("<b>\n</b>")
    assert environment.visible(text) is text


def test_names_of_the_fixture_are_all_hostile() -> None:
    for name in Names.__slots__:
        assert re.search(r"[<>\"'`]|javascript:", getattr(HOSTILE, name))
