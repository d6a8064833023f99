"""The report page in a browser: what opens, filters and highlights, by mouse and by keyboard, and who can read it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, SCHEMES, WIDTHS, Opened, looking
from PIL import Image
from playwright.sync_api import Browser, Page, expect

# The docs' pictures are written there only if this is set; else they are made, measured and thrown away.
WANTED = "TESTBED_SCREENSHOTS"
LARGEST = 300_000
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def _overflow(page: Page) -> int:
    """Return by how many pixels a page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


# The front page


def test_the_front_page_has_one_heading_and_answers_first(opened: Opened, reference: Path) -> None:
    page = opened.goto(reference)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)
    headings = page.get_by_role("heading", level=2).all_inner_texts()
    assert headings[:4] == ["What measuring costs", "Is every log complete?", "Doubts", "Overhead"]
    answer = page.locator("table.answer")
    box = answer.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900, "the answer is in one screen"
    expect(answer.get_by_role("row").nth(1)).to_contain_text("+64.34 M")


def test_filters_combine_and_say_how_many_rows_are_left(opened: Opened, reference: Path) -> None:
    page = opened.goto(reference)
    form, rows = page.locator("form[data-table=matrix]"), page.locator("#matrix tbody tr:visible")
    expect(rows).to_have_count(72)
    form.get_by_label("Measurer").select_option("container-file")
    expect(rows).to_have_count(12)
    form.get_by_label("Workload").select_option("nginx")
    expect(rows).to_have_count(1)
    expect(form.locator("output")).to_have_text("1 of 72 shown")
    form.get_by_label("Measurer").select_option("")
    expect(rows).to_have_count(6)


def test_a_mark_leads_to_the_page_of_its_run_and_back(opened: Opened, reference: Path) -> None:
    page = opened.goto(reference)
    page.locator("#matrix a.log").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("block 0")
    page.get_by_role("link", name="Report overhead-icount").click()
    assert page.url.endswith("index.html#correctness")


def test_a_mark_of_a_figure_shows_its_numbers_to_a_pointer(opened: Opened, reference: Path) -> None:
    page = opened.goto(reference)
    tip = page.get_by_role("tooltip")
    expect(tip).to_be_hidden()
    mark = page.locator('.mark[aria-label^="nginx, container-file"]').first
    mark.scroll_into_view_if_needed()
    mark.hover()
    expect(tip).to_contain_text("+184.9 % [+184.3, +185.3]; INVALID; n = 6")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def test_a_tip_stays_while_the_pointer_is_on_it(opened: Opened, reference: Path) -> None:
    page = opened.goto(reference)
    mark = page.locator(".mark").first
    mark.scroll_into_view_if_needed()
    mark.hover()
    tip = page.get_by_role("tooltip")
    tip.hover()
    page.wait_for_timeout(300)
    expect(tip).to_be_visible()
    page.mouse.move(2, 2)
    expect(tip).to_be_hidden()


def test_a_figure_is_one_stop_of_the_keyboard_and_arrows_go_on(opened: Opened, reference: Path) -> None:
    page = opened.goto(reference)
    figure = page.locator(".figure svg").first
    expect(figure.locator('.mark[tabindex="0"]')).to_have_count(1)
    figure.locator("xpath=..").focus()
    page.keyboard.press("Tab")
    tip = page.get_by_role("tooltip")
    expect(tip).to_contain_text("archive, ima-exec: +80.328 %")
    page.keyboard.press("ArrowDown")
    expect(tip).to_contain_text("archive, hooks-only: +0.142 %")
    page.keyboard.press("End")
    expect(tip).to_contain_text("sysbench-cpu, container-image: +0.064 %")
    page.keyboard.press("Tab")
    expect(tip).to_be_hidden()


def test_the_keyboard_skips_to_the_content_and_changes_the_colours(opened: Opened, reference: Path) -> None:
    page = opened.goto(reference)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    button = page.get_by_role("button", name="Dark")
    expect(button).to_have_attribute("aria-pressed", "false")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    button.focus()
    page.keyboard.press("Space")
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.keyboard.press("Space")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == before


# The page of a run


def test_the_log_filters_opens_and_shows_a_containers_entries(opened: Opened, imaged: Path) -> None:
    page = opened.goto(imaged)
    form, rows = page.locator("form[data-table=log-table]"), page.locator("#log-table tbody tr:visible")
    expect(rows).to_have_count(10)
    form.get_by_label("Text").fill("LIBC.so")
    expect(rows).to_have_count(1)
    page.locator("#containers a[data-container]").click()
    expect(form.get_by_label("Container")).to_have_value("1")
    expect(rows).to_have_count(6)
    form.get_by_role("button", name="Open all").click()
    expect(page.locator("#log-table details[open]")).to_have_count(6)
    form.get_by_role("button", name="Close all").click()
    expect(page.locator("#log-table details[open]")).to_have_count(0)


def test_an_entry_opens_by_keyboard(opened: Opened, imaged: Path) -> None:
    page = opened.goto(imaged)
    entry = page.locator("#e7 summary")
    entry.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#e7 dl")).to_contain_text("/usr/bin/bash")


def test_a_link_to_the_quoted_value_opens_the_replay(opened: Opened, imaged: Path) -> None:
    page = opened.goto(imaged)
    expect(page.locator("#s10")).to_be_hidden()
    page.get_by_role("link", name="after entry 10").click()
    expect(page.locator("#s10")).to_be_visible()
    expect(page.locator("#s10")).to_contain_text("the quoted value")


def test_a_link_to_an_entry_that_a_filter_hides_shows_it(opened: Opened, imaged: Path) -> None:
    page = opened.goto(imaged)
    page.locator("form[data-table=log-table]").get_by_label("Kind").select_option("ctr-beat")
    expect(page.locator("#e7")).to_be_hidden()
    page.locator("#containers a[href='#e7']").click()
    expect(page.locator("#e7 dl")).to_be_visible()


def test_parts_of_a_long_log_lead_to_each_other(opened: Opened, hostile_run: Path) -> None:
    page = opened.goto(hostile_run)
    expect(page.locator("#log-table tbody tr")).to_have_count(2000)
    page.locator("form[data-table=log-table]").get_by_label("Quote").select_option("unattested")
    expect(page.locator("#log-table tbody tr:visible")).to_have_count(0)
    page.get_by_role("link", name="after entry 2011").click()
    expect(page.locator("#s2011")).to_contain_text("the quoted value")
    page.locator("form[data-table=log-table]").get_by_label("Quote").select_option("unattested")
    expect(page.locator("#log-table tbody tr:visible")).to_have_count(2)
    page.get_by_role("link", name="Entries before these").first.click()
    expect(page.locator("#e1")).to_be_visible()


# Everyone


def test_hostile_names_run_nothing(opened: Opened, hostile: Path, hostile_run: Path) -> None:
    for path in (hostile, hostile_run):
        page = opened.goto(path)
        assert page.evaluate("document.querySelectorAll('script').length") == 1
        assert _overflow(page) <= 0
        expect(page.get_by_text("<script>").first).to_be_visible()


def test_all_is_readable_without_scripts(browser: Browser, reference: Path, imaged: Path) -> None:
    with looking(browser, scripts=False) as opened:
        page = opened.goto(reference)
        expect(page.locator("#matrix tbody tr:visible")).to_have_count(72)
        expect(page.locator(".js").first).to_be_hidden()
        expect(page.locator('.mark[tabindex="0"] title').first).to_have_count(1)
        page = opened.goto(imaged)
        page.locator("#e7 summary").click()
        expect(page.locator("#e7 dl")).to_be_visible()


def test_print_shows_what_is_folded_and_no_controls(opened: Opened, imaged: Path) -> None:
    page = opened.goto(imaged)
    page.emulate_media(media="print")
    expect(page.locator(".top nav")).to_be_hidden()
    expect(page.locator("form.filters")).to_be_hidden()
    box = page.locator("#e7 dl").bounding_box()
    assert box is not None
    assert box["height"] > 100


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("which", ["reference", "imaged", "hostile"])
def test_axe_finds_no_violation_of_wcag(
    browser: Browser, request: pytest.FixtureRequest, which: str, scheme: str
) -> None:
    with looking(browser, scheme=scheme) as opened:
        page = opened.goto(request.getfixturevalue(which))
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        options = {"runOnly": {"type": "tag", "values": WCAG}, "resultTypes": ["violations"]}
        results = Axe().run(page, options=options)
        found = [
            (rule["id"], [node["html"][:200] for node in rule["nodes"][:3]]) for rule in results.response["violations"]
        ]
        assert found == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_page_is_wider_than_the_window(
    browser: Browser, tmp_path: Path, shown: tuple[Path, ...], width: int, scheme: str
) -> None:
    with looking(browser, width=width, scheme=scheme) as opened:
        for path in shown:
            page = opened.goto(path)
            assert _overflow(page) <= 0, path
            shot = page.screenshot(path=tmp_path / f"{path.stem}-{width}-{scheme}.png")
            assert Image.open(io.BytesIO(shot)).size == (width, 900)


# The docs' pictures


def _keep(page: Page, name: str, tmp_path: Path) -> int:
    """Write a picture of what is in the window, in few colours: to the docs if that is wanted. Return its size."""
    directory = ROOT / "docs/screenshots" if os.environ.get(WANTED) else tmp_path
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}.png"
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(200).save(path, optimize=True)
    return path.stat().st_size


def test_the_pictures_of_the_docs_are_small(browser: Browser, tmp_path: Path, reference: Path, imaged: Path) -> None:
    with looking(browser) as opened:
        page = opened.goto(reference)
        sizes = [_keep(page, "report-index", tmp_path)]
        page = opened.goto(imaged)
        sizes.append(_keep(page, "report-container", tmp_path))
        page.locator("#e8 summary").click()
        page.locator("#log").evaluate("(section) => section.scrollIntoView()")
        sizes.append(_keep(page, "report-log", tmp_path))
    assert max(sizes) < LARGEST
    assert min(sizes) > LARGEST / 30
