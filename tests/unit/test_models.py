"""Run length, the price of a byte, time, single events, the null model: each against a truth that is known."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from fake_campaign import PRICES, RUNGS, WORKLOADS, added, build
from test_attribution import truth

from testbed import cli
from testbed.analysis import hosthash
from testbed.analysis.bench.prices import EventCost
from testbed.analysis.hosthash import HostHash
from testbed.analysis.judged.checks import Judged
from testbed.analysis.models import bench_check, byteprice, runlength, timemodel
from testbed.analysis.models.bench_check import SingleCounts
from testbed.analysis.models.timemodel import Assumptions
from testbed.analysis.report import absolute, event_costs, inputs, lengths, price_checks, times
from testbed.analysis.report.inputs import Given
from testbed.analysis.tables import costmodel, events, spread, tables
from testbed.analysis.tables.spread import SpreadKind
from testbed.analysis.tables.tables import Tables
from testbed.attest.verdict import Verdict
from testbed.errors import EvidenceError
from testbed.plan import Cell
from testbed.record import Record, Sample
from testbed.rundir import load

HOST = HostHash(cpu="a fast one", mhz=2000.0, sha_ni=True, rate=1e9, least=9e8, n=7)
# Of an iteration, so much is what runs after the start; the operations share it.
RUNNING = 0.75
SLOWER = 0.004


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    campaign = build(tmp_path_factory.mktemp("known"), arms=RUNGS, workloads=WORKLOADS, noise=1e-6)
    return tables.read(load(campaign), truth=truth())


def _running(cell: Cell, record: Record) -> Record:
    """Add what a server used once it ran: the baseline's share, and a little more under a measurer."""
    shape = WORKLOADS[cell.workload]
    if shape.operations < 1000:
        return record
    slower = SLOWER if cell.measurer.startswith("container") else 0.0
    value = 1e-9 * RUNNING * shape.base * (1 + slower)
    samples = [
        Sample(metric="cpu_running", unit="s", value=value, iteration=one.iteration, warmup=one.warmup)
        for one in record.samples
        if one.metric == "cpu"
    ]
    return replace(record, samples=(*record.samples, *samples))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    few = {name: WORKLOADS[name] for name in ("nginx", "redis", "start-warm")}
    campaign = build(tmp_path_factory.mktemp("served"), arms=RUNGS, workloads=few, noise=1e-7, change=_running)
    return tables.read(load(campaign), truth=truth(few))


def one(table: pd.DataFrame, **named: str) -> dict[Any, Any]:
    """Return the only row with these values."""
    for name, value in named.items():
        table = table[table[name] == value]
    (row,) = table.to_dict("records")
    return row


# Run length


def test_a_start_and_an_operation_are_divided(served: Tables) -> None:
    shape = WORKLOADS["nginx"]
    row = one(served.lengths, workload="nginx", treatment="container-file")
    assert row["operations"] == shape.operations
    assert row["base"] == pytest.approx(RUNNING * shape.base / shape.operations, rel=5e-3)
    assert row["cost"] == pytest.approx(SLOWER * row["base"], rel=5e-3)
    assert row["start_base"] == pytest.approx((1 - RUNNING) * shape.base, rel=5e-3)
    assert row["start_cost"] == pytest.approx(added(shape, "container-file") - SLOWER * RUNNING * shape.base, rel=5e-3)
    assert row["start_low"] <= row["start_cost"] <= row["start_high"]
    # At this length the overhead is the limit, before it more, after it less.
    shares = runlength.overhead(row, np.array([0.5, 1.0, 2.0]) * row["even"])
    assert shares[0] > runlength.LIMIT > shares[2]
    assert shares[1] == pytest.approx(runlength.LIMIT, rel=1e-6)


def test_without_a_running_state_the_share_falls_with_the_length_alone(served: Tables) -> None:
    row = one(served.lengths, workload="start-warm", treatment="container-file")
    assert (row["base"], row["cost"]) == (0.0, 0.0)
    assert row["even"] == pytest.approx(row["start_cost"] / runlength.LIMIT, rel=1e-3)


def test_an_operation_that_costs_more_than_the_limit_never_falls_below_it(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        made = _running(cell, record)
        dear = cell.measurer == "container-file"
        more = (
            replace(one, value=1.05 * one.value) if dear and one.metric == "cpu_running" else one
            for one in made.samples
        )
        return replace(made, samples=tuple(more))

    campaign = build(tmp_path, arms=RUNGS, workloads={"nginx": WORKLOADS["nginx"]}, noise=1e-7, change=change)
    found = tables.read(load(campaign))
    row = one(found.lengths, treatment="container-file")
    assert math.isinf(row["even"])
    (line,) = (line for line in lengths.section(found, {}) if "`container-file`" in line)
    assert "never, by these numbers" in line


def test_the_report_says_after_how_many_operations(served: Tables) -> None:
    text = "\n".join(lengths.section(served, {"run-length": "x.png"}))
    assert "![overhead against the length of a run](x.png)" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| `nginx` | `container-file` |"))
    assert "requests [" in line
    assert "no run of that length was measured" in text


# The price of a byte, and time


def test_another_price_of_a_byte_changes_the_hashing_alone(known: Tables) -> None:
    shape = WORKLOADS["compile"]
    mine = known.byte_prices[
        (known.byte_prices["workload"] == "compile") & (known.byte_prices["treatment"] == "container-file")
    ]
    assert list(mine["price"]) == list(byteprice.PRICES)
    assert mine["hashed"].iloc[0] == shape.bytes
    others = added(shape, "container-file") - PRICES["byte"] * shape.bytes
    for price, cost in zip(mine["price"], mine["cost"], strict=True):
        assert cost == pytest.approx(others + price * shape.bytes, rel=0.02)
    assert mine["overhead"].is_monotonic_decreasing
    assert "hooks-only" not in set(known.byte_prices["treatment"])


def test_the_time_model_is_its_four_terms(known: Tables) -> None:
    shape = WORKLOADS["compile"]
    table = timemodel.times(known, Assumptions(host=HOST, cpi=(0.5, 2.0), tpm_s=0.007))
    row = one(table, workload="compile", treatment="container-file")
    second = 0.5 / 2e9
    others = added(shape, "container-file") - PRICES["byte"] * shape.bytes
    assert row["hash_s"] == pytest.approx(shape.bytes / 1e9)
    assert row["tpm_s"] == pytest.approx(0.007 * (shape.files + 1))
    assert row["rest_least_s"] == pytest.approx(second * others, rel=0.05)
    assert row["rest_most_s"] == pytest.approx(4 * row["rest_least_s"])
    assert row["base_least_s"] == pytest.approx(second * shape.base, rel=0.01)
    assert row["added_least_s"] == pytest.approx(row["hash_s"] + row["tpm_s"] + row["rest_least_s"])
    # Slow instructions make the hashing, whose time is measured, a smaller part of the whole.
    assert row["least"] == pytest.approx(row["added_most_s"] / row["base_most_s"])
    assert row["most"] == pytest.approx(row["added_least_s"] / row["base_least_s"])


def test_generic_code_keeps_its_instructions(known: Tables) -> None:
    table = timemodel.times(known, Assumptions(host=HOST, cpi=(1.0, 1.0)))
    row = one(table, workload="compile", treatment="ima-exec")
    assert row["hash_s"] == 0
    assert row["least"] == pytest.approx(added(WORKLOADS["compile"], "ima-exec") / WORKLOADS["compile"].base, rel=0.01)


def test_the_report_says_what_the_time_model_is(known: Tables) -> None:
    text = "\n".join(times.of_time(known, Assumptions(host=HOST, cpi=(0.5, 2.0))))
    assert "it is no measurement of time" in text
    assert "1,000 MB/s, SHA-256 in memory on `a fast one` (with instructions of its own for it)" in text
    assert "takes 0.5 to 2 cycles" in text
    assert "as no `--tpm-ms` was given" in text
    assert "`testbed report --cpi 0.5-2`" in "\n".join(times.of_time(known, None))


def test_the_speed_of_a_host_is_measured_once_and_kept(tmp_path: Path) -> None:
    measured = hosthash.of_campaign(tmp_path)
    assert measured.rate >= measured.least > 1e6
    assert measured.cpu
    assert measured.cycles == pytest.approx(measured.mhz * 1e6 / measured.rate)
    assert hosthash.of_campaign(tmp_path) == measured
    file = tmp_path / hosthash.FILE
    for text in ("{", "[]", json.dumps(asdict(measured) | {"rate": 0}), json.dumps({"cpu": "x"})):
        file.write_text(text)
        with pytest.raises(EvidenceError, match="expected the speed of a host's SHA-256"):
            hosthash.of_campaign(tmp_path)


# Prices


def test_first_starts_have_one_price_of_the_runtimes_program_and_take_the_others(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        dear = cell.measurer == "container-image"
        more = (
            replace(one, value=one.value + 23.5e-3) if dear and one.metric == "cpu" and one.iteration == 0 else one
            for one in record.samples
        )
        return replace(record, samples=tuple(more))

    campaign = build(tmp_path, arms=RUNGS, workloads=WORKLOADS, noise=1e-6, change=change)
    found = tables.read(load(campaign), truth=truth())
    fits = {fit.step.name: fit for fit in found.fits}
    image = fits["image"]
    assert image.prices["runtimes"].center == pytest.approx(23.5e6, rel=0.05)
    assert set(image.taken) == {"walked", "launches"}
    assert not set(image.prices) & set(fits["launch"].prices)
    # In all chains of the containers' arms an event has one price.
    prices = costmodel.priced(found.fits, "container-image", "debian-6.12")
    named = [term for fit in found.fits if fit.step.native for term in fit.prices]
    assert len(named) == len(set(named)) == len(prices)


def test_what_is_added_does_not_weigh(known: Tables) -> None:
    """A workload that adds little, and noisily, moves no price more than its baseline allows."""
    (step,) = (step for step in costmodel.steps() if step.name == "file")
    table = known.observed["file"]
    kept = table[~table["cold"].astype(bool)]
    noisy = kept["added"].where(kept["workload"] != "exec-static", kept["added"] * 1.02)
    fits = [costmodel.fit(seen, step, "debian-6.12", "instructions") for seen in (kept, kept.assign(added=noisy))]
    assert fits[0] is not None
    assert fits[1] is not None
    assert fits[1].prices["bytes"].center == pytest.approx(fits[0].prices["bytes"].center, rel=2e-3)


def test_a_price_that_cannot_be_told_from_0_is_none(known: Tables) -> None:
    (step,) = (step for step in costmodel.steps() if step.name == "hook")
    table = known.observed["hook"]
    sign = pd.Series(np.where(table["block"] % 2 == 0, 1.0, -0.9), index=table.index)
    fit = costmodel.fit(table.assign(added=sign * 1e5), step, "debian-6.12", "instructions")
    assert fit is None


def test_run_counts_price_the_hooks_where_the_kernel_counted_them(tmp_path: Path) -> None:
    runs = {name: 100 + 37 * len(name) for name in WORKLOADS}

    def change(cell: Cell, record: Record) -> Record:
        if cell.measurer != "hooks-only":
            return record
        more = (
            replace(one, value=one.value + 450e-9 * runs[cell.workload]) if one.metric == "cpu" else one
            for one in record.samples
        )
        return replace(record, samples=tuple(more))

    def counted(cell: Cell, record: Record) -> Record:
        counters = {"bpf_runs_a": 2 * runs[cell.workload] - 10, "bpf_runs_b": 10, "bpf_ns_a": 5}
        single = len({one.iteration for one in record.samples}) == 1
        shown = {name: value // 2 if single else value for name, value in counters.items()}
        return replace(record, counters=shown if cell.measurer == "hooks-only" else {})

    campaign = load(build(tmp_path / "a", arms=RUNGS, workloads=WORKLOADS, noise=1e-8, change=change))
    other = load(build(tmp_path / "b", arms=("hooks-only",), workloads=WORKLOADS, blocks=1, change=counted))
    known = events.with_runs(events.events(campaign, truth()), other)
    mine = known[known["measurer"] == "hooks-only"].groupby("workload")["runs"].first()
    assert mine["nginx"] == pytest.approx(runs["nginx"])
    found = tables.read(campaign, truth=truth(), runs=other)
    (fit,) = (fit for fit in found.fits if fit.step.name == "hook")
    assert set(fit.prices) == {"runs"}
    said = " ".join(price_checks.hooks(found))
    assert "is priced by the number of runs of its programs" in said
    without = tables.read(campaign, truth=truth())
    assert "by decisions, as no run counts are known" in " ".join(price_checks.hooks(without))


def test_the_null_model_knows_bytes_alone(known: Tables) -> None:
    row = one(known.predictions, workload="compile", arm="container-file")
    assert row["null"] == pytest.approx(PRICES["byte"] * WORKLOADS["compile"].bytes, rel=0.2)
    assert row["null_ratio"] == pytest.approx(row["null"] / row["observed"])
    # A workload with many lookups and few bytes is what it must miss.
    missed = one(known.predictions, workload="exec-30", arm="container-file")
    assert abs(missed["null_ratio"] - 1) > abs(missed["ratio"] - 1)
    text = "\n".join(event_costs.section(known, {}))
    assert "`container-file`, null model: " in text
    assert "less than that" in text


# Content that is remembered


def test_a_content_that_is_recalled_is_hashed_in_the_first_iteration(tmp_path: Path) -> None:
    shape = WORKLOADS["nginx"]

    def change(cell: Cell, record: Record) -> Record:
        if cell.measurer != "container-file":
            return record
        counters = record.counters | {"recalled": shape.files, "bytes_hashed": shape.bytes}
        return replace(record, counters=counters)

    campaign = load(build(tmp_path, arms=RUNGS, workloads={"nginx": shape}, blocks=1, change=change))
    table = events.events(campaign, truth({"nginx": shape}))
    mine = table[table["measurer"] == "container-file"].set_index("iteration")
    assert list(mine["bytes"]) == [shape.bytes, 0.0]
    assert list(mine["files"]) == [shape.files, shape.files]
    assert events.disagreements(table) == []


def test_bytes_are_priced_by_first_iterations_where_later_ones_hash_nothing(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        if cell.measurer != "container-file":
            return record
        shape = WORKLOADS[cell.workload]
        number = len({one.iteration for one in record.samples})
        counters = record.counters | {
            "recalled": shape.files * (shape.starts * number - 1),
            "bytes_hashed": shape.bytes,
        }
        bytes_ = 1e-9 * PRICES["byte"] * shape.bytes
        spared = {0: (shape.starts - 1) * bytes_, 1: shape.starts * bytes_}
        samples = tuple(
            replace(one, value=one.value - spared[one.iteration]) if one.metric == "cpu" else one
            for one in record.samples
        )
        return replace(record, counters=counters, samples=samples)

    arms = ("none", "none2", "hooks-only", "container-file")
    found = tables.read(load(build(tmp_path, arms=arms, workloads=WORKLOADS, noise=1e-7, change=change)), truth=truth())
    fits = {fit.step.name: fit for fit in found.fits}
    assert fits["file"].given_up["bytes"] == "did not occur"
    assert fits["content"].prices["bytes"].center == pytest.approx(PRICES["byte"], rel=0.02)
    assert set(fits["content"].taken) == set(fits["file"].prices)
    text = "\n".join(event_costs.section(found, {}))
    assert "it hashes nothing in a timed iteration, so the null model says nothing" in text


# Single events

SINGLE = {
    ("none", "map-hot", 0): 10_000.0,
    ("hooks-only", "map-hot", 0): 10_200.0,
    ("container-file", "map-hot", 0): 11_600.0,
    ("none", "start", 0): 300_000.0,
    ("hooks-only", "start", 0): 300_400.0,
    ("container-file", "start", 0): 303_200.0,
    **{("hooks-only", "map-cold", size): 20_000.0 for size in (64, 4096, 65536)},
    **{("container-file", "map-cold", size): 140_000.0 + 31.0 * size for size in (64, 4096, 65536)},
}


def _counts(values: Mapping[tuple[str, str, int], float] = SINGLE) -> dict[str, SingleCounts]:
    rows = tuple(
        EventCost(arm=arm, event=event, size=size, median=value, low=value, high=value, n=5)
        for (arm, event, size), value in values.items()
    )
    facts = {"kernel_release": "6.12.0"}
    return {"debian-6.12": SingleCounts(kernel="debian-6.12", rows=rows, digest="ab" * 32, facts=facts)}


def test_each_price_stands_beside_its_single_event(known: Tables) -> None:
    table = bench_check.checked(known.fits, _counts())
    lookup, file = (one(table, step="file", event=event) for event in ("lookups", "files"))
    assert (lookup["single_low"], lookup["single_high"]) == (1_400.0, 1_400.0)
    assert lookup["apart"] == pytest.approx(lookup["price"] / 1_400 - 1)
    assert one(table, step="file", event="bytes")["single_low"] == pytest.approx(31.0)
    extend = one(table, step="file", event="extends")["price"]
    assert file["single_low"] == pytest.approx(120_000.0 - extend, rel=0.01)
    assert abs(file["apart"]) < 0.05
    # IMA's bytes are other code, and the bench did not count images.
    assert one(table, step="ima", event="bytes")["how"] == "no such single event"
    assert math.isnan(one(table, step="image", event="image_bytes")["apart"])


def test_the_report_says_how_far_prices_and_single_events_are_apart(known: Tables) -> None:
    dear = {key: value + 1400.0 * (key == ("container-file", "start", 0)) for key, value in SINGLE.items()}
    dear[("container-file", "map-hot", 0)] = 14_000.0
    found = replace(known, bench=_counts(dear), checked=bench_check.checked(known.fits, _counts(dear)))
    text = "\n".join(price_checks.bench(found))
    assert "ab" * 32 in text
    assert "`lookups` of the step `file`" in text
    doubts = " ".join(event_costs.doubts(found))
    assert "Prices farther than 10 % from the count of a single event: `lookups` of `file` (\N{MINUS SIGN}" in doubts
    assert "No count of single events is beside this campaign" in "\n".join(price_checks.bench(known))


def test_counts_are_those_whose_digest_stands_beside_them(tmp_path: Path) -> None:
    campaign = tmp_path / "campaign"
    campaign.mkdir()
    assert bench_check.read(campaign, "debian-6.12") is None
    directory = tmp_path / bench_check.DIRECTORY
    directory.mkdir()
    said = {"kernel_release": "6.12.0", "rows": [asdict(row) for row in _counts()["debian-6.12"].rows], "ratios": []}
    file = directory / "measurer-debian-6.12.json"
    file.write_text(json.dumps(said))
    with pytest.raises(EvidenceError, match="expected a line in SHA256SUMS"):
        bench_check.read(campaign, "debian-6.12")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (directory / "SHA256SUMS").write_text(f"{digest}  {file.name}\n")
    counts = bench_check.read(campaign, "debian-6.12")
    assert counts is not None
    assert counts.digest == digest
    assert counts.rows == _counts()["debian-6.12"].rows
    assert counts.facts == {"kernel_release": "6.12.0"}
    assert bench_check.read(campaign, "../x") is None
    for text in ("{", '{"rows": [{}]}', "[]"):
        file.write_text(text)
        (directory / "SHA256SUMS").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  {file.name}\n")
        with pytest.raises(EvidenceError, match="expected the JSON of"):
            bench_check.read(campaign, "debian-6.12")


# Blocks


@pytest.mark.parametrize(
    ("arm", "arms", "first"),
    [
        ("none2", ("none", "none2"), "none"),
        ("a2", ("none",), None),
        ("drift2", ("drift",), "drift"),
        ("none", ("none",), None),
    ],
)
def test_which_arm_repeats_which(arm: str, arms: tuple[str, ...], first: str | None) -> None:
    assert spread.twin_of(arm, arms) == first


def test_every_block_is_in_the_table_of_blocks(tmp_path: Path) -> None:
    arms = {"none": 0.0, "none2": 0.0, "none3": 0.0, "container-file": 0.5}
    found = tables.read(load(build(tmp_path, arms=arms, noise=1e-3)))
    groups = found.spread.groupby(["arm", "over", "kind"])["log"]
    assert set(groups.groups) == {
        ("container-file", "none", str(SpreadKind.EFFECT)),
        ("none3", "none", str(SpreadKind.EFFECT)),
        ("none3", "none", str(SpreadKind.TWICE)),
        ("none2", "none", str(SpreadKind.TWICE)),
    }
    assert set(groups.size()) == {6}
    assert groups.mean()["container-file", "none", "effect"] == pytest.approx(math.log(1.5), abs=2e-3)


# Absolute cost first


def test_an_operation_has_its_cost_baseline_and_percentage(known: Tables) -> None:
    text = absolute.lines(known)
    head = next(line for line in text if line.startswith("| operation"))
    assert head.startswith("| operation | `none` | `ima-exec` |")
    (start,) = (line for line in text if line.startswith("| A start of a known image (`start-warm`)"))
    cells = [cell.strip() for cell in start.strip("|").split("|")]
    shape = WORKLOADS["start-warm"]
    assert float(cells[1].removesuffix(" M")) == pytest.approx(shape.base / shape.operations / 1e6, rel=0.01)
    expected = added(shape, "container-file") / shape.operations / 1e6
    assert float(cells[4].removeprefix("+").split(" ")[0]) == pytest.approx(expected, rel=0.01)
    assert cells[4].endswith(" %)")
    assert "**" not in "".join(text[1:])
    byte = next(line for line in text if line.startswith("| A byte of a new file"))
    assert "+31.0" in byte


def test_a_start_that_knows_its_image_by_its_layers_walks_over_nothing(tmp_path: Path) -> None:
    shape = WORKLOADS["start-warm"]

    def change(cell: Cell, record: Record) -> Record:
        if cell.measurer != "container-image":
            return record
        return replace(record, counters=record.counters | {"images_recalled": len(record.containers) - 1})

    campaign = load(build(tmp_path, arms=RUNGS, workloads={"start-warm": shape}, blocks=1, change=change))
    table = events.events(campaign, truth({"start-warm": shape}))
    mine = table[table["measurer"] == "container-image"].set_index("iteration")
    assert list(mine["walked"]) == [0.0, 0.0]
    assert list(mine["image_files"]) == [shape.image_files, 0.0]
    assert list(mine["launches"]) == [shape.starts, shape.starts]


@pytest.mark.parametrize("text", ["2", "2-1", "0-1", "a-b", "1-inf", "-1-2", "nan-2"])
def test_a_range_of_cycles_is_two_numbers_above_0(tmp_path: Path, text: str) -> None:
    said = CliRunner().invoke(cli.main, ["report", str(tmp_path), f"--cpi={text}"])
    assert said.exit_code == 2
    assert "expected two numbers above 0 as LOW-HIGH" in said.stderr


def test_the_models_need_what_the_reader_gives(tmp_path: Path) -> None:
    campaign = build(
        tmp_path, arms=("none", "none2", "container-file"), workloads={"nginx": WORKLOADS["nginx"]}, blocks=2
    )

    def judge(*_: object) -> Judged:
        return Judged(verdict=Verdict(findings=()))

    plain = inputs.gather(load(campaign), judge)
    assert plain.assumed is None
    assert not (campaign.path / hosthash.FILE).exists()
    given = inputs.gather(load(campaign), judge, given=Given(tpm_ms=7.0, cpi=(0.5, 2.0)))
    assert given.assumed is not None
    assert given.assumed.cpi == (0.5, 2.0)
    assert given.assumed.tpm_s == pytest.approx(0.007)
    assert (campaign.path / hosthash.FILE).is_file()
