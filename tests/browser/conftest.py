"""A headless browser, the reports that it looks at, and what no page may do there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))  # campaigns are made there

from page_campaign import HOSTILE, write  # noqa: E402

from testbed.analysis.report import report  # noqa: E402
from testbed.attest.rivals import verifiers  # noqa: E402
from testbed.rundir import Campaign, load  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
FORCED = "TESTBED_FORCE_BROWSER"
WIDTHS = (360, 768, 1440)
SCHEMES = ("light", "dark")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A page in the browser. ``complaints``: what its console said, errors of its script, requests to a network."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def goto(self, path: Path, fragment: str = "") -> Page:
        self.page.goto(path.as_uri() + fragment)
        return self.page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        if os.environ.get(FORCED):
            pytest.fail(f"{CHROMIUM} is missing, and {FORCED} is set: run `make setup`")
        pytest.skip(f"{CHROMIUM} is missing: run `make setup`")
    sandbox = () if os.geteuid() else ("--no-sandbox",)  # Chromium has none for root
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*sandbox, "--disable-gpu"])
        yield started
        started.close()


@contextmanager
def looking(
    browser: Browser, *, width: int = 1440, height: int = 900, scheme: str = "light", scripts: bool = True
) -> Iterator[Opened]:
    """Open an empty page of this size. At the end nothing may have complained, and no network been asked."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    opened = Opened(page=context.new_page())
    opened.page.on("console", lambda said: opened.complaints.append(f"console: {said.text}"))
    opened.page.on("pageerror", lambda error: opened.complaints.append(f"script: {error}"))
    opened.page.on(
        "request",
        lambda asked: None if asked.url.startswith(("file:", "data:")) else opened.complaints.append(asked.url),
    )
    try:
        yield opened
        assert opened.complaints == []
    finally:
        context.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """A page of 1440 pixels in light colours."""
    with looking(browser) as page:
        yield page


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The front page of the report on the reference data."""
    campaign = tmp_path_factory.mktemp("report") / "reference"
    shutil.copytree(ROOT / "results/reference", campaign)
    with pytest.MonkeyPatch.context() as patch:
        # The page names the directory: as a reader of the repository sees it.
        patch.chdir(campaign.parent)
        # Other verifiers take longest, and their table looks like the others.
        patch.setattr(verifiers, "available", lambda: ())
        return report.write(load(Campaign(path=Path("reference")))).page.resolve()


@pytest.fixture(scope="session")
def imaged(reference: Path) -> Path:
    """The page of a run of ``container-image`` that has its log."""
    (bundle,) = (
        path
        for path in reference.parents[1].glob("runs/*/evidence")
        if b"ctr-launch" in (path / "ima.bin").read_bytes()
    )
    return reference.parent / "runs" / f"{bundle.parent.name}.html"


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The front page of a report full of names that an attacker chose; its logs have two parts."""
    return write(tmp_path_factory.mktemp("hostile"), HOSTILE, files=2010, blocks=2)


@pytest.fixture(scope="session")
def hostile_run(hostile: Path) -> Path:
    """The page of one run with a log of two parts."""
    second = min((hostile.parent / "runs").glob("*.log-2.html"))
    return second.with_name(second.name.replace(".log-2", ""))


@pytest.fixture(scope="session")
def shown(reference: Path, imaged: Path, hostile_run: Path) -> tuple[Path, ...]:
    """The pages that are looked at in each width."""
    return reference, imaged, hostile_run
