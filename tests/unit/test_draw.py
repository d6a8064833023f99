"""Every figure of a campaign: there if there is something to show, whole, and saying whose it is and what it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from fake_campaign import RUNGS, WORKLOADS, Shape, build
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from test_attribution import truth

from testbed import rundir
from testbed.analysis import figures
from testbed.analysis.figures import canvas
from testbed.analysis.report import draw, how_it_went, overhead, tpm
from testbed.analysis.tables import curves, ladder, overall, tables
from testbed.analysis.tables.ladder import Question
from testbed.analysis.tables.tables import Tables
from testbed.plan import Cell
from testbed.record import Record, Status, Tier
from testbed.rundir import load

QUESTION = Question(tier=Tier.ICOUNT)
FAMILIES: Mapping[str, Shape] = {
    **{f"files-{number}": Shape(files=number, bytes=4096 * number, base=1e8) for number in (10, 100, 1000)},
    **{
        f"bytes-{size}": Shape(files=1, bytes=many, base=1e8)
        for size, many in (("4k", 4096), ("64k", 65536), ("1m", 1 << 20))
    },
    "exec-3": Shape(),
}


def _read(root: Path, workloads: Mapping[str, Shape], **options: object) -> Tables:
    campaign = build(root, **({"arms": RUNGS, "workloads": workloads} | options))  # type: ignore[arg-type]
    return tables.read(load(campaign), truth=truth(workloads))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return _read(tmp_path_factory.mktemp("many"), WORKLOADS)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return _read(tmp_path_factory.mktemp("families"), FAMILIES)


def _said(figure: Figure) -> str:
    figure.canvas.draw()
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def _inside(figure: Figure) -> list[str]:
    """Return the words that reach out of the figure or into the words below it."""
    with mpl.rc_context(fname=canvas.STYLE):
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    *_, caption = figure.texts
    below, outer = caption.get_window_extent(), figure.bbox
    bad = []
    for ax in figure.axes:
        (left, right), (bottom, top) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
        ticks = [text for text in ax.get_xticklabels() if left <= text.get_position()[0] <= right]
        ticks += [text for text in ax.get_yticklabels() if bottom <= text.get_position()[1] <= top]
        for text in [ax.xaxis.label, ax.yaxis.label, *ticks, *ax.texts, ax.title] if ax.get_visible() else []:
            box = text.get_window_extent()
            if text.get_text() and (box.overlaps(below) or box.x0 < outer.x0 or box.x1 > outer.x1):
                bad.append(text.get_text())
    if below.x1 > outer.x1 or below.y0 < outer.y0:
        bad.append("caption")
    return bad


@pytest.mark.parametrize("name", ["overhead", "blocks", "ladder-stack", "byte-price", "cost-model", "starts"])
def test_every_figure_says_whose_it_is_and_what_it_does_not_say(many: Tables, name: str) -> None:
    figure = draw.FIGURES[name](many)
    assert figure is not None
    said = _said(figure)
    assert "Campaign fake-icount-0badcafe; tier icount" in said
    assert "n = 6 blocks" in said or name == "byte-price"
    assert "Shown" in said
    assert "Not shown:" in said
    assert draw.UNJUDGED in said
    assert _inside(figure) == []


def test_scaling_curves_are_drawn_of_families_only(families: Tables) -> None:
    assert set(families.scaling["family"]) == {"files", "bytes"}
    figure = draw.scaling(families)
    assert figure is not None
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["bytes-N", "files-N"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["4k", "64k", "1m"]
    assert figure.axes[0].get_xscale() == "log"
    assert "Not shown:" in _said(figure)
    assert _inside(figure) == []


def test_a_scaling_curve_has_the_costs_of_the_ladder(families: Tables) -> None:
    curve = families.scaling[
        (families.scaling["family"] == "files") & (families.scaling["treatment"] == "container-file")
    ]
    assert list(curve["number"]) == [10, 100, 1000]
    costs = families.ladder[families.ladder["treatment"] == "container-file"].set_index("workload")["cost"]
    assert list(curve["value"]) == [costs[f"files-{number}"] for number in (10, 100, 1000)]
    assert (curve["low"] < curve["value"]).all()
    assert (curve["noise"] > 0).all()


def test_what_is_not_there_is_not_drawn(tmp_path: Path, families: Tables) -> None:
    assert draw.starts(families) is None
    one = {"mmap": WORKLOADS["mmap"]}
    assert draw.stack(_read(tmp_path / "one", one)) is None
    few = _read(tmp_path, one, blocks=1, tier=Tier.TCG)
    assert draw.write(few, tmp_path / "figures") == {}
    assert not (tmp_path / "figures").exists()


def test_all_figures_are_files(tmp_path: Path, many: Tables) -> None:
    drawn = draw.write(many, tmp_path)
    assert list(drawn) == ["overhead", "blocks", "ladder-stack", "byte-price", "cost-model", "starts"]
    assert {path.suffix for paths in drawn.values() for path in paths} == {".pdf", ".png"}
    assert all(path.stat().st_size > 1000 for paths in drawn.values() for path in paths)


def test_the_grid_has_every_workload_and_arm_and_the_noise(many: Tables) -> None:
    figure = draw.overhead(many)
    assert figure is not None
    (ax,) = figure.axes
    arms = ["ima-exec", "hooks-only", "container-file", "container-image"]
    assert [label.get_text() for label in ax.get_yticklabels()] == arms * len(WORKLOADS)
    assert len(ax.collections) == len(WORKLOADS)  # a band each
    said = [text.get_text() for text in ax.texts]
    assert [text for text in said if text in WORKLOADS] == sorted(WORKLOADS)
    # Beside each row what it adds and its percentage, and a head above both.
    assert sum(text.endswith(" %") for text in said) == len(arms) * len(WORKLOADS)
    assert len(said) == (2 * len(arms) + 2) * len(WORKLOADS) + 2


def test_arms_are_told_apart_in_grey(many: Tables) -> None:
    looks = [canvas.look(arm) for arm in RUNGS]
    assert len({look.marker for look in looks} | {""}) > 4
    assert len({(look.marker, str(look.dashes)) for look in looks}) == len(looks)
    assert len({look.colour for look in looks}) == len(looks)


def test_few_workloads_have_their_numbers_beside_them(tmp_path: Path) -> None:
    few = _read(tmp_path, {name: WORKLOADS[name] for name in ("mmap", "redis")})
    figure = draw.overhead(few)
    assert figure is not None
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["mmap", "redis"]


def test_a_start_is_the_share_of_an_iteration(many: Tables) -> None:
    table = many.starts
    assert set(table["workload"]) == {"start-cold", "start-warm"}
    warm = table[(table["workload"] == "start-warm") & (table["measurer"] == "none")]
    assert set(warm["starts"]) == {5.0}
    assert len(warm) == 6
    assert list(warm["value"]) == pytest.approx([WORKLOADS["start-warm"].base / 5] * 6, rel=0.01)


def test_runtimes_are_compared_in_panels_of_their_own(tmp_path: Path) -> None:
    both = _read(tmp_path, {"start-warm": WORKLOADS["start-warm"]}, runtimes=("crun", "runc"))
    figure = draw.starts(both)
    assert figure is not None
    assert [ax.get_title(loc="left") for ax in figure.axes[::2]] == ["start-warm, crun", "start-warm, runc"]


def test_the_geometric_mean_is_of_ratios_and_over_blocks(many: Tables) -> None:
    table = many.overall.set_index("treatment")
    each = many.ladder[many.ladder["treatment"] == "container-file"]["ratio"]
    mean = math.prod(each) ** (1 / len(each))
    assert table.loc["container-file", "ratio"] == pytest.approx(mean, rel=1e-3)
    assert table["low"]["container-file"] < table["ratio"]["container-file"] < table["high"]["container-file"]
    assert set(table["n"]) == {6}
    assert set(table["workloads"]) == {12}


def test_a_block_that_lost_a_workload_is_not_in_the_mean(many: Tables) -> None:
    every = list(ladder.contrasts(many.rows, QUESTION))
    mmap = [one for one in every if one.stratum["workload"] == "mmap"]
    lost = [replace(one, arms=one.arms.drop(index=2)) if one in mmap else one for one in every]
    assert set(overall.overall(lost)["n"]) == {5}
    assert overall.overall(mmap).empty


def test_other_methods_are_asked_and_their_disagreement_is_told(many: Tables, tmp_path: Path) -> None:
    assert len(many.methods) == 3 * len(many.ladder)
    spiky = _read(tmp_path, {"mmap": WORKLOADS["mmap"]}, arms=("none", "none2", "hooks-only"), change=_spike)
    told = spiky.methods[spiky.methods["workload"] == "mmap"]
    assert not told["agree"].any()
    assert any("Methods disagree about `hooks-only`" in line for line in overhead.doubts(spiky))
    assert not any("disagree" in line for line in overhead.doubts(replace(spiky, methods=many.methods.iloc[:0])))


def _spike(cell: Cell, record: Record) -> Record:
    """Ten times dearer in one block: no matter to ranks, the end of a mean."""
    hit = cell.measurer == "hooks-only" and record.block == 0
    factor = 10.0 if hit else 1.01 if cell.measurer == "hooks-only" else 1.0
    samples = tuple(replace(one, value=factor * one.value) if one.metric == "cpu" else one for one in record.samples)
    return replace(record, samples=samples)


def test_extends_are_counted_and_waiting_stands_apart(many: Tables) -> None:
    table = many.waiting.set_index(["workload", "measurer"])
    shape = WORKLOADS["nginx"]
    assert table.loc[("nginx", "container-file"), "extends"] == shape.files + 1
    assert table.loc[("nginx", "none"), "wait"] == pytest.approx(0.5 * shape.base * 1e-9, rel=0.01)
    assert table["base_wait"]["nginx", "container-file"] == table["wait"]["nginx", "none"]


def test_a_latency_is_a_model_and_only_shown_if_given(many: Tables) -> None:
    plain = "\n".join(tpm.section(many.waiting, None))
    assert "MODEL" not in plain
    assert "not the latency of a hardware TPM" in plain
    told = "\n".join(tpm.section(many.waiting, 7.0))
    assert "MODEL: extends x 7 ms" in told
    (line,) = (line for line in told.splitlines() if line.startswith("| `nginx` | `container-file`"))
    assert line.endswith("| 126 ms |")  # 18 extends
    assert "not a measurement" in told


def test_the_order_is_balanced_or_it_is_said(many: Tables) -> None:
    assert not how_it_went.balance(many.plan).ok
    cells = many.plan.blocks[0].cells[:6]
    arms = [replace(cells[0], measurer=arm) for arm in RUNGS]
    zigzag = (0, 5, 1, 4, 2, 3)
    square = [tuple(arms[(step + shift) % 6] for step in zigzag) for shift in range(6)]
    blocks = tuple(replace(many.plan.blocks[0], index=index, cells=row) for index, row in enumerate(square))
    told = how_it_went.balance(replace(many.plan, blocks=blocks))
    assert told.ok
    assert "every position once and follows every other arm once" in told.words
    assert "not balanced" in how_it_went.balance(replace(many.plan, blocks=blocks[:5])).words


def test_what_was_put_aside_is_told_by_arm(tmp_path: Path) -> None:
    campaign = build(tmp_path)
    for path, record in list(rundir.records(campaign))[:6]:
        aside = path.with_name(f"{path.name}~1")
        aside.mkdir()
        rundir.write_record(
            aside, replace(record, status=Status.REJECTED, reason="host_steal: 0.1, at most 0.02 is allowed")
        )
    rows = tables.read(load(campaign)).rows
    told = "\n".join(how_it_went.attempts(rows))
    arm = rows.loc[~rows["current"], "measurer"].iloc[0]
    assert f"| `{arm}` | 6 | 0 | 0 | 0 | 0 | 6 | `host_steal` x6 |" in told
    assert "No run was rejected" in "\n".join(how_it_went.attempts(rows[rows["current"]]))


def test_boots_differ_as_much_as_they_do(tmp_path: Path) -> None:
    rows = tables.read(load(build(tmp_path, drift=0.01, blocks=24, arms={"none": 0, "none2": 0}))).rows
    (row,) = how_it_went.boots(rows, QUESTION).to_dict("records")
    assert 0.006 < row["sd"] < 0.014
    assert row["span"] > row["sd"]
    assert row["n"] == 24


def test_a_family_needs_three_members() -> None:
    row = {"kernel": "k", "runtime": "r", "treatment": "t", "cost": 1.0, "cost_low": 0.5, "cost_high": 2.0, "base": 9.0}
    row |= {"floor_low": 0.99, "floor_high": 1.01, "n": 6, "unit": "s"}
    table = pd.DataFrame([row | {"workload": name} for name in ("a-1", "a-2", "b-1", "b-2", "b-3", "c")])
    assert set(curves.scaling(table)["family"]) == {"b"}
    assert curves.scaling(ladder.ladder(pd.DataFrame(columns=["attack", "current"]), Question(tier=Tier.TCG))).empty


def test_small_numbers_are_short() -> None:
    assert [canvas.short(value) for value in (0, 20, 2500, 3e6, -1.5e9)] == [
        "0",
        "20",
        "2.5 k",
        "3 M",
        "\N{MINUS SIGN}1.5 G",
    ]
    assert figures.Caption(campaign="c", tier=Tier.KVM).notes == ()


def _dear(cell: Cell, record: Record) -> Record:
    odd = cell.workload == "mmap" and cell.measurer == "container-file"
    samples = tuple(replace(one, value=3 * one.value) if one.metric == "cpu" else one for one in record.samples)
    return replace(record, samples=samples) if odd else record


def test_a_prediction_far_off_stands_at_the_edge_with_its_number(tmp_path: Path) -> None:
    four = {name: WORKLOADS[name] for name in ("archive", "compile", "exec-30", "mmap", "nginx", "redis", "postgres")}
    figure = draw.model(_read(tmp_path, four, change=_dear))
    assert figure is not None
    strip = figure.axes[1]
    assert any(float(text.get_text()) < 0.85 for text in strip.texts)
    assert "predictions inside" in _said(figure)
    assert _inside(figure) == []
