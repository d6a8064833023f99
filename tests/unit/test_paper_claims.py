"""Each claim of claims.toml is judged by data: it holds for the reference data, and it fails for data that differs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from testbed.analysis.paper import amounts, claims, material, page, slides
from testbed.analysis.paper.amounts import Amount
from testbed.analysis.paper.claims import ClaimVerdict, JudgedClaim, PaperClaim
from testbed.analysis.paper.material import CampaignData, PaperData
from testbed.analysis.tables import tables
from testbed.errors import SpecError
from testbed.record import Tier
from testbed.rundir import Campaign, load

ROOT = Path(__file__).parents[2]
STATED = claims.read(ROOT / "claims.toml")


@pytest.fixture(scope="module")
def data() -> PaperData:
    paths = (ROOT / "results/reference", ROOT / "results/reference-paper")
    return material.gather((load(Campaign(path=path)) for path in paths), slides.read(ROOT / "tests/golden/slides"))


def judged(data: PaperData) -> dict[str, JudgedClaim]:
    return {one.claim.id: one for one in claims.judge(STATED, data)}


def replaced(data: PaperData, experiment: str, **changes: object) -> PaperData:
    one = dataclasses.replace(data.campaigns[experiment], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(data, campaigns={**data.campaigns, experiment: one})


def recomputed(campaign: CampaignData, rows: pd.DataFrame, events: pd.DataFrame | None = None) -> tables.Tables:
    known = campaign.tables
    return tables.compute(known.plan, known.question, rows, known.events if events is None else events)


def overhead_checks(data: PaperData) -> pd.DataFrame:
    checks = data.campaigns["overhead"].checks
    assert checks is not None
    return checks.copy()


def test_there_are_enough_claims_about_everything_that_matters() -> None:
    assert len(STATED) >= 12
    assert {claim.metric for claim in STATED} == set(amounts.METRICS)
    assert {claim.experiment for claim in STATED} == {"overhead", "paper", "slides"}
    assert all(claim.minutes > 0 for claim in STATED if claim.experiment != "slides")


def test_every_claim_holds_for_the_reference_data(data: PaperData) -> None:
    wrong = {name: one for name, one in judged(data).items() if one.verdict is not ClaimVerdict.HOLDS}
    assert wrong == {}


def test_a_claim_about_cost_fails_if_an_arm_costs_more(data: PaperData) -> None:
    campaign = data.campaigns["overhead"]
    rows = campaign.tables.rows.copy()
    arm = (rows["measurer"] == "container-file") & rows["metric"].isin(["cpu", "cpu_running"])
    rows.loc[arm, "value"] *= 1.2
    found = judged(replaced(data, "overhead", tables=recomputed(campaign, rows)))
    fails = {name for name, one in found.items() if one.verdict is ClaimVerdict.FAILS}
    assert {"start-file", "start-file-cost", "request-nginx", "request-redis", "mean-file", "byte-file"} <= fails
    # The other arms are as they were.
    assert not {"start-hooks", "start-plain-ima", "noise"} & fails


def test_the_claim_about_noise_fails_if_the_baseline_differs_from_itself(data: PaperData) -> None:
    campaign = data.campaigns["overhead"]
    rows = campaign.tables.rows.copy()
    rows.loc[(rows["measurer"] == "none2") & (rows["metric"] == "cpu"), "value"] *= 1.004
    found = judged(replaced(data, "overhead", tables=recomputed(campaign, rows)))
    assert found["noise"].verdict is ClaimVerdict.FAILS
    # With a biased baseline nothing can be said of an arm.
    assert found["start-file"].verdict is ClaimVerdict.UNKNOWN
    assert "A/A" in found["start-file"].why


@pytest.mark.parametrize(
    ("measurer", "kind", "failing"),
    [
        ("container-file", "missing", {"log-of-files"}),
        ("container-image", "misattributed", {"log-of-images"}),
        ("container-file", "template-hash", set()),
    ],
)
def test_a_claim_about_a_log_fails_by_one_finding(data: PaperData, measurer: str, kind: str, failing: set[str]) -> None:
    changed = overhead_checks(data)
    at = changed.index[changed["measurer"] == measurer][3]
    found: Any = [{"kind": kind}]
    changed.at[at, "findings"] = found  # noqa: PD008 - a cell that holds a list
    changed.loc[at, "verdict"] = "unexpected"
    after = judged(replaced(data, "overhead", checks=changed))
    fails = {name for name, one in after.items() if one.verdict is ClaimVerdict.FAILS}
    assert fails == failing | {"all-as-expected"}
    amount = after["all-as-expected"].amount
    assert amount is not None
    assert amount.value == pytest.approx(100 * 431 / 432)


def test_no_entry_demanded_is_no_success(data: PaperData) -> None:
    changed = overhead_checks(data)
    changed.loc[changed["measurer"] == "container-file", "promised"] = 0
    one = judged(replaced(data, "overhead", checks=changed))["log-of-files"]
    assert one.verdict is ClaimVerdict.UNKNOWN
    assert "no entry was demanded" in one.why


def test_claims_about_bindings_fail_for_other_entries(data: PaperData) -> None:
    live = dict(data.campaigns["paper"].live)
    live["prototype-file"], live["container-file"] = live["container-file"], live["prototype-file"]
    live["prototype-image"] = live["container-image"]
    found = judged(replaced(data, "paper", live=live))
    fails = {name for name, one in found.items() if one.verdict is ClaimVerdict.FAILS}
    assert fails == {"live-file-bits", "live-namespace", "live-image-bits", "live-ours-bits", "live-ours-bound"}


def test_claims_about_the_slides_fail_for_other_listings(data: PaperData) -> None:
    by_name = {one.slide.name: one for one in data.listings}
    bound = tuple(dataclasses.replace(line, bits=256, bound=True) for line in by_name["namespaced-files"].lines)
    whole = tuple(
        dataclasses.replace(line, state=slides.LineState.AS_PRINTED)
        for line in by_name["container-files-unreadable"].lines
    )
    listings = tuple(
        dataclasses.replace(one, lines={"namespaced-files": bound, "container-files-unreadable": whole}[one.slide.name])
        if one.slide.name in {"namespaced-files", "container-files-unreadable"}
        else one
        for one in data.listings
    )
    found = judged(dataclasses.replace(data, listings=listings))
    fails = {name for name, one in found.items() if one.verdict is ClaimVerdict.FAILS}
    assert fails == {"slide-file-bits", "slide-namespace", "slide-unreadable"}


def test_entries_and_costs_of_the_prototypes(data: PaperData) -> None:
    campaign = data.campaigns["paper"]
    rows, events = campaign.tables.rows.copy(), campaign.tables.events.copy()
    rows.loc[(rows["measurer"] == "prototype-file") & (rows["metric"] == "cpu"), "value"] /= 20
    events.loc[events["measurer"] == "prototype-file", "extends"] = 60
    events.loc[events["measurer"] == "container-file", "extends"] = 3
    found = judged(replaced(data, "paper", tables=recomputed(campaign, rows, events)))
    fails = {name for name, one in found.items() if one.verdict is ClaimVerdict.FAILS}
    assert fails == {"live-cost-prototype", "live-repeat-prototype", "live-repeat-ours"}


def test_without_data_nothing_is_judged(data: PaperData) -> None:
    found = judged(PaperData(campaigns={}, listings=()))
    assert {one.verdict for one in found.values()} == {ClaimVerdict.UNKNOWN}
    assert found["start-file"].why == "no campaign of overhead is here"
    assert found["slide-shared"].why == "the slides' listings are not here"
    unjudged = judged(replaced(replaced(data, "overhead", checks=None), "paper", live={}))
    unknown = {name for name, one in unjudged.items() if one.verdict is ClaimVerdict.UNKNOWN}
    assert {"all-as-expected", "log-of-files", "log-of-images", "live-file-bits", "live-ours-bound"} <= unknown


def test_a_claim_of_another_tier_is_not_judged(data: PaperData) -> None:
    known = data.campaigns["overhead"].tables
    other = dataclasses.replace(known, plan=dataclasses.replace(known.plan, tier=Tier.KVM))
    found = judged(replaced(data, "overhead", tables=other))
    assert found["start-file"].why == "the claim is about tier icount, and the campaign is of tier kvm"
    assert found["log-of-files"].verdict is ClaimVerdict.HOLDS


def test_one_block_has_no_interval_and_so_no_verdict(data: PaperData) -> None:
    wish = PaperClaim(
        id="x",
        says="x",
        experiment="paper",
        metric="overhead",
        low=0,
        high=1e9,
        minutes=1,
        where={"workload": "tools", "measurer": "container-file"},
    )
    (one,) = claims.judge([wish], data)
    assert (one.verdict, "too few blocks" in one.why) == (ClaimVerdict.UNKNOWN, True)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (4.0, 6.0, ClaimVerdict.HOLDS),
        (3.0, 7.0, ClaimVerdict.UNKNOWN),
        (6.5, 7.0, ClaimVerdict.FAILS),
        (1.0, 3.4, ClaimVerdict.FAILS),
        (-math.inf, 6.0, ClaimVerdict.UNKNOWN),
        (1.0, 9.0, ClaimVerdict.UNKNOWN),
    ],
)
def test_the_whole_interval_decides(low: float, high: float, verdict: ClaimVerdict) -> None:
    wish = PaperClaim(id="x", says="x", experiment="x", metric="bits", low=3.5, high=6.0, minutes=1)
    amount = Amount(value=5.0, low=low, high=high, unit="1", basis="a test")
    assert claims.compare(wish, amount) is verdict


def _entry(**changes: str) -> str:
    known = {
        "id": '"a"',
        "says": '"b"',
        "experiment": '"overhead"',
        "metric": '"complete"',
        "expected": "1",
        "minutes": "1",
    }
    lines = [f"{key} = {value}" for key, value in (known | changes).items() if value]
    return "\n".join(["[[claim]]", *lines, ""])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = 1\n[[claim", "expected claims in TOML"),
        ("[[claim]]\n", "expected schema = 1"),
        ("schema = 1\nclaim = [3]\n", "claim 1: expected a table, got 3"),
        (_entry(expected=""), "expected `expected` or `at_least`, `at_most`"),
        (_entry(at_most="3"), "expected `expected` or"),
        (_entry(expected="nan"), "expected a number, got nan"),
        (_entry(expected="true"), "expected a number, got True"),
        (_entry(tolerance="-1"), "needs `expected`, and at least 0"),
        (_entry(metric='"nonesuch"'), "no metric 'nonesuch'"),
        (_entry(metric='"bound"', minutes=""), "not of the expected shape: KeyError('minutes')"),
        (_entry(metric='"found"'), "'measurer' is missing"),
        (_entry(colour='"red"'), "unknown key 'colour'"),
        (_entry() + _entry(), "two claims are named a"),
    ],
)
def test_what_is_wrong_with_a_file_of_claims_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(
        text if text.startswith(("schema", "[[claim]]\n\n")) or said.endswith("= 1") else f"schema = 1\n{text}"
    )
    with pytest.raises(SpecError, match=r".") as caught:
        claims.read(path)
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_each_claim_is_printed_with_its_value_interval_and_expected_value(data: PaperData) -> None:
    one = judged(data)["start-file"]
    lines = page.claim_lines([one])
    assert lines == [
        "holds: start-file: A start of a container of one static program costs 474 % more under container-file.",
        "    expected 469.4 to 479.4; got 474.411 [474.011, 475.046] % (95 %, n = 6)",
        "1 claims: 1 hold, 0 do not hold, 0 cannot be judged",
    ]
    said = one.as_json()
    assert (said["verdict"], said["interval"], said["expected"]) == (
        "holds",
        pytest.approx([474.011, 475.046], abs=1e-2),
        [469.4, 479.4],
    )


@pytest.mark.parametrize("make", [lambda: claims.read(Path("nonesuch/claims.toml"))])
def test_a_missing_file_is_a_wrong_argument(make: Callable[[], object]) -> None:
    with pytest.raises(SpecError, match=r"nonesuch/claims\.toml: expected claims in TOML"):
        make()
