"""An independent recomputation of the numbers of docs/overhead.md, and pages that quote the campaign that is there."""

from __future__ import annotations

import ast
import hashlib
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recompute
from recomputed import page as pages
from recomputed.claims import Claims
from recomputed.estimates import contrast, cost, hodges_lehmann, p_value, rank, verdict
from recomputed.prices import Prices
from recomputed.samples import Samples
from recomputed.samples import digest as digest_again

from testbed.analysis import quoted
from testbed.analysis.statistics import effect
from testbed.analysis.tables import tables
from testbed.analysis.tables.tables import Tables
from testbed.errors import SpecError
from testbed.rundir import Campaign, load

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results/reference"
HOSTS = ROOT / "results/reference-hosts"
PAGE = ROOT / "docs/overhead.md"
# Pages in docs/ of which every number is recomputed, or has a source.
PAGES = ("overhead.md", "calibration.md")
SCRIPT = ROOT / "benchmarks/recompute.py"
OWN = [SCRIPT, *sorted((ROOT / "benchmarks/recomputed").glob("*.py"))]


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Samples.read(REFERENCE)


@pytest.fixture(scope="module")
def claims(samples: Samples) -> Claims:
    return Claims(
        samples=samples, prices=Prices(samples), hosts=tuple(Samples.read(path) for path in sorted(HOSTS.glob("*/")))
    )


@pytest.fixture(scope="module")
def known() -> Tables:
    return tables.read(load(Campaign(path=REFERENCE)))


def run(page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(SCRIPT), str(REFERENCE), str(page), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("page", PAGES)
def test_every_number_of_a_page_is_recomputed_or_has_a_source(page: str, claims: Claims) -> None:
    found = list(recompute.outcomes((ROOT / "docs" / page).read_text(encoding="utf-8"), claims))
    bad = [one for one in found if one.outcome in ("differs", "not covered")]
    assert bad == [], f"`make quoted`, then `benchmarks/recompute.py {REFERENCE} docs/{page} --write`"
    assert any(one.outcome == "recomputed" for one in found)


@pytest.mark.parametrize("source", OWN, ids=lambda path: path.name)
def test_the_script_uses_no_part_of_the_package(source: Path) -> None:
    tree = ast.walk(ast.parse(source.read_text()))
    named = [alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names]
    tree = ast.walk(ast.parse(source.read_text()))
    named += [node.module or "" for node in tree if isinstance(node, ast.ImportFrom)]
    allowed = sys.stdlib_module_names | {"numpy", "pandas", "scipy", "recomputed"}
    assert {name.partition(".")[0] for name in named} <= allowed


# The numbers are wrong: the script corrects them.
TEMPLATE = """# A page

These are 1 runs on five boots, with the digest `000000000000`.
<!-- numbers: runs; blocks -->

A start takes 9.9 [9.9, 9.9] million instructions (+9.9 % [+9.9, +9.9]). The baseline repeats within ±0.0001 %, a byte
costs 3.5, and this is half of 20.
<!-- numbers: cost cpu container-file start-warm; overhead cpu container-file start-warm; bound aa cpu python-start;
price ima bytes; - a number that was chosen -->

<!-- table: overhead cpu -->
<!-- end -->

<!-- table: cost cpu -->
<!-- end -->

<!-- table: prices -->
<!-- end -->

<!-- table: hosts -->
<!-- end -->

## Another campaign

<!-- elsewhere: it is not kept -->

It had 17 boots.

## A benchmark

It found **1.051**.
<!-- numbers: in measurer.md -->
"""


@pytest.fixture(scope="module")
def right(known: Tables, claims: Claims) -> str:
    """Return a page that is right: its tables are those of the package, its text was corrected by the script."""
    page = quoted.quoted(TEMPLATE, known, quoted.digest(REFERENCE), quoted.beside(REFERENCE))
    return recompute.corrected(page, list(recompute.outcomes(page, claims)))


# Each is one change of that page (pattern, replacement), and what the script must say of it.
CHANGES = {
    "in a table": (r"(\| \+\d+\.)\d( ?\d* % \[)", r"\g<1>0009\2", "differs"),
    "an end of an interval": (r"(\| \+\d+\.\d+ \[\+\d+\.\d+, \+\d+\.\d+)\]", r"\g<1>9]", "differs"),
    "a verdict": (r"\] \((below δ|inconclusive|no detectable overhead)\)", "]", r"differs \(verdict: "),
    "a row is missing": (r"(<!-- table: overhead cpu -->(?:\n.*){3}\| `)", r"\1x", "rows are missing"),
    "a price is missing": (r"\n\| plain IMA \|.*one hashed byte.*", "", "prices are missing: ima: bytes"),
    "a count of the other host": (r"(`python-start` \| `none` \| [\d.]+ M and \d+)", r"\g<1>9", "differs"),
    "a difference of hosts": (r"(`python-start` \| `none` (?:[^|]*\|){2} .\d\.\d\d)", r"\g<1>99", "differs"),
    "in a sentence": (r"takes (\d+)\.", r"takes 1\1.", r"differs \(cost cpu"),
    "a number of runs": (r"These are (\d+) runs", r"These are 9\1 runs", r"differs \(runs: \d+\)"),
    "a number in words": (r"on \w+ boots", "on nine boots", r"nine: differs \(blocks: \d+\)"),
    "a bound": (r"within ±\d+\.\d+ %", "within ±0.0001 %", r"differs \(bound "),
    "a new number": (r"## A benchmark\n", "## A benchmark\n\nIt is 17.\n", "17: not covered"),
    "a new number in words": (r"## A benchmark\n", "## A benchmark\n\nThese are seven.\n", "seven: not covered"),
    "a lost comment": (r"<!-- numbers: runs; blocks -->", "", "not covered"),
    "a lost source": (r"<!-- elsewhere: it is not kept -->", "", "17: not covered"),
    "a number that another page has not": (r"1\.051", "1.0517", "differs \\(not in docs/measurer.md"),
    "a page that is none": (r"in measurer.md", "in measure.md", "no such page"),
    "an item too many": (r"blocks -->", "blocks; arms -->", "more items than numbers: arms"),
    "an unknown quantity": (r"price ima", "prize ima", "'prize' is no quantity"),
    "an unknown price": (r"ima bytes", "ima letters", "names nothing"),
    "an unknown workload": (r"blocks -->", "count base cpu *-start-old -->", "no workload start-old"),
    "several numbers": (r"blocks -->", "base cpu * -->", r"is \d+ numbers"),
    "a table of another kind": (r"<!-- table: prices -->", "<!-- table: pries -->", "expected one of operations"),
    "another campaign": (r"digest `[0-9a-f]{8}", "digest `00000000", "differs"),
    "no campaign": (r"digest `[0-9a-f]+`", "a lost digest", "does not quote the digest"),
}


def complaints(page: str, claims: Claims) -> list[str]:
    bad = [one for one in recompute.outcomes(page, claims) if one.outcome in ("differs", "not covered")]
    return [f"{one.text}: {one.outcome} ({one.why})" for one in bad]


def test_a_corrected_page_is_right_and_what_was_chosen_is_left(right: str, claims: Claims) -> None:
    assert complaints(TEMPLATE.replace("<!-- table", "<!-- tables"), claims) != []
    assert complaints(right, claims) == []
    assert "this is half of 20." in right
    assert "It had 17 boots." in right
    assert "9.9" not in right.partition("<!-- table")[0]


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_page_is_found(name: str, right: str, claims: Claims) -> None:
    pattern, new, said = CHANGES[name]
    changed, count = re.subn(pattern, new, right, count=1)
    assert count == 1
    assert changed != right
    found = complaints(changed, claims)
    assert any(re.search(said, line) for line in found), found


def test_it_writes_the_numbers_of_a_text_into_the_page(right: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    changed = re.sub(r"on \w+ boots", "on nine boots", re.sub(r"takes (\d+)\.", r"takes 1\1.", right))
    page.write_text(changed, encoding="utf-8")
    assert run(page, "--write").returncode == 1
    assert page.read_text(encoding="utf-8") == right
    assert run(page).returncode == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("takes 64.34 [64.29, 64.40] million", [(64.34e6, 64.29e6, 64.40e6)]),
        ("+0.67 % [+0.17, −0.80]", [(0.67, 0.17, -0.80)]),  # noqa: RUF001
        ("A/A is [−0.28, 0.00]", [(None, -0.28, 0.0)]),  # noqa: RUF001
        ("+2 [−34, +36] k instructions", [(2e3, -34e3, 36e3)]),  # noqa: RUF001
        ("the first 1,024 of 15 MiB", [(1024.0, None, None), (15 * 2**20, None, None)]),
        (
            "0.0 to 0.7 % on eleven of Twelve",
            [(0.0, None, None), (0.7, None, None), (11, None, None), (12, None, None)],
        ),
        ("SHA-256 and AVX2 on x86-64, `6.12`, [a page](b-12.md), 2nd, in 2004, 2022.", []),
        ("at 1,234, 2,004 and 20045", [(1234.0, None, None), (2004.0, None, None), (20045.0, None, None)]),
    ],
)
def test_numbers_of_a_text(text: str, shown: list[tuple[float | None, ...]]) -> None:
    found = [(one.value, one.low, one.high) for one in pages.numbers(text)]
    assert len(found) == len(shown)
    assert all(one == pytest.approx(given) for one, given in zip(found, shown, strict=True))


def test_a_comment_without_text_is_an_error() -> None:
    with pytest.raises(SystemExit, match="line 1: a comment about numbers, but no text"):
        pages.read("<!-- numbers: runs -->\n")
    with pytest.raises(SystemExit, match="line 3: expected a table of kind 'prices'"):
        pages.read("# A\n\n<!-- table: prices -->\n<!-- end -->\n")


@pytest.mark.parametrize("n", range(1, 14))
def test_interval_and_p_are_those_of_every_choice_of_signs(n: int) -> None:
    totals = np.array([sum(ranks) for ranks in itertools.product(*((0, r) for r in range(1, n + 1)))])
    k = sum(bool((totals <= t).mean() <= 0.025) for t in range(n * (n + 1) // 2 + 1))
    assert rank(n, 0.05) == k
    values = np.random.default_rng(n).normal(1, 1, n)
    found = hodges_lehmann(values)
    assert (p_value(values) <= 0.05) == (not found.low <= 0 <= found.high)
    assert p_value(values) == pytest.approx(float(effect.estimate(values).p or 1))


def made(**arms: list[float]) -> Samples:
    """Return a campaign of one workload: instructions of each arm in each block."""
    rows = [
        {"label": "a", "block": block, "measurer": arm, "metric": "cpu", "value": value / 1e9, "operations": 1.0}
        | {"iteration": 1, "warmup": False, "current": True, "status": "ok", "oracle": "ok"}
        for arm, values in arms.items()
        for block, value in enumerate(values)
    ]
    facts = {"experiment": {"baseline": "none", "duplicate": "none2", "delta": None}}
    none = pd.DataFrame()
    return Samples(directory=Path(), rows=pd.DataFrame(rows), events=none, checks=none, facts=facts)


SAME = [100.0, 100.01, 99.99, 100.0, 100.01, 99.99]
QUIET = {"none": [100.0] * 6, "none2": SAME}
DEARER = [102.0] * 6


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"x": DEARER}, "OVERHEAD"),
        ({"x": [100.2] * 6}, "OVERHEAD, below δ"),
        ({"x": [98.0] * 6}, "SPEED-UP"),
        ({"x": SAME}, "NO DETECTABLE OVERHEAD"),
        # Its own second run differs by more than its effect, or by always the same.
        ({"x": DEARER, "x2": [99.0, 105.0, 99.0, 105.0, 99.0, 105.0]}, "INCONCLUSIVE"),
        ({"x": DEARER, "x2": [103.0] * 6}, "INVALID"),
        # It ran once, so its floor is that of the arm that is noisiest; that other arm's bias is not its own.
        ({"x": DEARER, "y": DEARER, "y2": [99.0, 105.0, 99.0, 105.0, 99.0, 105.0]}, "INCONCLUSIVE"),
        ({"x": DEARER, "y": DEARER, "y2": [102.5] * 6}, "OVERHEAD"),
        ({"x": DEARER, "none2": [101.0] * 6}, "INVALID"),
    ],
)
def test_the_floor_of_an_arm_is_its_own(arms: dict[str, list[float]], said: str) -> None:
    found = contrast(made(**QUIET | arms), "cpu", "x", "a")
    assert found is not None
    assert verdict(found, 0.005) == said


def test_too_few_blocks_have_no_verdict() -> None:
    found = contrast(made(none=[100.0] * 5, none2=[100.0] * 5, x=DEARER[:5]), "cpu", "x", "a")
    assert found is not None
    assert verdict(found, 0.005) == "INCONCLUSIVE"


def test_it_agrees_with_the_package_beyond_what_a_page_shows(samples: Samples, claims: Claims, known: Tables) -> None:
    compared = 0
    for metric, ladder in known.ladders.items():
        for row in ladder.to_dict("records"):
            where = (metric, str(row["treatment"]), str(row["workload"]))
            found, amount = contrast(samples, *where), cost(samples, *where)
            assert found is not None
            assert amount is not None
            effects = hodges_lehmann(found.logs)
            assert np.exp([effects.value, effects.low, effects.high]) == pytest.approx(
                [row["ratio"], row["low"], row["high"]], rel=1e-12
            )
            assert [amount.value, amount.low, amount.high] == pytest.approx(
                [row["cost"], row["cost_low"], row["cost_high"]], rel=1e-9
            )
            compared += 1
    assert compared == sum(map(len, known.ladders.values())) > 0
    for fit in known.fits:
        again = claims.prices.fit(fit.step.name)
        assert again is not None
        assert {term: price.value for term, price in again.prices.items()} == pytest.approx(
            {term: price.center for term, price in fit.prices.items()}, rel=1e-6
        )


def test_the_digest_is_that_of_the_files_by_sha256sum() -> None:
    names = ["campaign.json", "plan.json", "reference.json", "*.parquet", "blocks/*/*", "runs/*/*", "runs/*/*/*"]
    found = {path for name in names for path in REFERENCE.glob(name) if path.is_file()}
    listed = sorted(path.relative_to(REFERENCE).as_posix() for path in found)
    summed = subprocess.run(["sha256sum", *listed], cwd=REFERENCE, capture_output=True, check=True).stdout
    assert quoted.digest(REFERENCE) == digest_again(REFERENCE) == hashlib.sha256(summed).hexdigest()


def test_a_report_is_not_in_the_digest_and_a_record_is(tmp_path: Path) -> None:
    for name in ("campaign.json", "report.md", "report/index.html", "figures/a.png", "runs/a/record.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    before = quoted.digest(tmp_path)
    for name in ("report.md", "report/index.html", "figures/a.png"):
        (tmp_path / name).write_text("other")
    assert quoted.digest(tmp_path) == before == digest_again(tmp_path)
    (tmp_path / "runs/a/record.json").write_text("other")
    assert quoted.digest(tmp_path) != before


@pytest.mark.parametrize("page", [*(f"docs/{page}" for page in PAGES), "README.md"])
def test_a_page_about_the_reference_data_quotes_its_digest(page: str) -> None:
    digest = quoted.digest(REFERENCE)
    told = re.findall(r"digest `([0-9a-f]{12,64})`", (ROOT / page).read_text(encoding="utf-8"))
    hint = f"{page} is about another campaign: `make quoted`, then `benchmarks/recompute.py --write`"
    assert told, hint
    assert all(digest.startswith(one) for one in told), hint


def test_generated_tables_are_those_of_the_campaign(known: Tables) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("<!-- table: ") == text.count("<!-- end -->") > 3
    others = quoted.beside(REFERENCE)
    assert quoted.quoted(text, known, quoted.digest(REFERENCE), others) == text, "run `make quoted`"


def test_a_table_that_no_campaign_has_is_an_error(known: Tables) -> None:
    with pytest.raises(SpecError, match="table 'overhead tea': expected a table of"):
        quoted.quoted("<!-- table: overhead tea -->\n<!-- end -->\n", known, "")
    with pytest.raises(SpecError, match="table 'chairs'"):
        quoted.quoted("<!-- table: chairs -->\n<!-- end -->\n", known, "")
