"""A figure says what its table says, in words that fit its tier; its axis fits what it shows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from fake_campaign import ARMS, build
from matplotlib.figure import Figure

from testbed.analysis import figures, words
from testbed.analysis.figures import canvas
from testbed.analysis.statistics.effect import Conclusion
from testbed.analysis.tables import frames, ladder
from testbed.analysis.tables.ladder import Question
from testbed.record import Tier
from testbed.rundir import load


def _table(tmp_path: Path, tier: Tier = Tier.ICOUNT, **options: object) -> pd.DataFrame:
    rows = frames.rows(load(build(tmp_path, tier=tier, **options)))  # type: ignore[arg-type]
    return ladder.ladder(rows, Question(tier=tier))


def _draw(table: pd.DataFrame, tier: Tier = Tier.ICOUNT) -> Figure:
    return figures.rungs(table, figures.Caption(campaign="fake-icount-0badcafe", tier=tier, notes=("A note.",)))


def _texts(figure: Figure) -> str:
    figure.canvas.draw()
    inside = [text.get_text() for ax in figure.axes for text in ax.texts]
    around = [word for ax in figure.axes for word in (ax.get_xlabel(), ax.get_title(loc="left"))]
    return " ".join([*inside, *around, *(text.get_text() for text in figure.texts)]).replace("\n", " ")


def test_icount_figure_speaks_of_instructions_and_never_of_seconds(tmp_path: Path) -> None:
    said = _texts(_draw(_table(tmp_path)))
    assert "guest instructions (cgroup CPU time under icount)" in said
    assert "tier icount; n = 6 blocks" in said
    assert "fake-icount-0badcafe" in said
    assert "A note." in said
    assert " s " not in said
    assert "second" not in said


def test_every_rung_has_its_number_interval_and_verdict(tmp_path: Path) -> None:
    table = _table(tmp_path)
    (ax,) = _draw(table).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ima-exec", "hooks-only", "container-file"]
    for text, row in zip(ax.texts, table.to_dict("records"), strict=True):
        assert text.get_text().startswith(words.overhead(row["ratio"], row["low"], row["high"]))
        assert str(row["verdict"]) in text.get_text()


def test_a_panel_a_workload(tmp_path: Path) -> None:
    figure = _draw(_table(tmp_path, workloads={"tools": 0.4, "hello": 0.1}))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["hello", "tools"]


@pytest.mark.parametrize(("largest", "scale"), [(0.02, "linear"), (0.62, "symlog"), (3.1, "symlog")])
def test_the_axis_shows_small_effects_beside_large_ones(tmp_path: Path, largest: float, scale: str) -> None:
    (ax,) = _draw(_table(tmp_path, arms={**ARMS, "container-file": largest})).axes
    assert ax.get_xscale() == scale
    low, high = ax.get_xlim()
    assert low < 0
    assert high > 100 * largest


def test_nothing_overlaps(tmp_path: Path) -> None:
    figure = _draw(_table(tmp_path, arms={**ARMS, "prototype-image": 3.1, "container-image": 0.7}))
    figure.canvas.draw()
    (ax,) = figure.axes
    outer = figure.bbox
    for texts in (ax.texts, ax.get_yticklabels(), ax.get_xticklabels()):
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert all(outer.x0 <= box.x0 and box.x1 <= outer.x1 for box in boxes)
    (caption,) = figure.texts
    assert not caption.get_window_extent().overlaps(ax.xaxis.label.get_window_extent())
    assert caption.get_window_extent().x1 <= outer.x1


def test_too_few_blocks_draw_no_interval_and_say_so(tmp_path: Path) -> None:
    figure = _draw(_table(tmp_path, blocks=3))
    (ax,) = figure.axes
    assert not ax.patches
    said = _texts(figure)
    assert words.NO_INTERVAL in said
    assert "none (too few blocks)" in said
    assert "inf" not in said


def test_the_band_is_the_noise(tmp_path: Path) -> None:
    table = _table(tmp_path)
    (ax,) = _draw(table).axes
    (band,) = ax.patches
    assert band.get_extents().width > 0
    left, right = band.get_path().get_extents(band.get_patch_transform()).intervalx
    assert left == pytest.approx(100 * (table["floor_low"][0] - 1))
    assert right == pytest.approx(100 * (table["floor_high"][0] - 1))


def test_kvm_is_time(tmp_path: Path) -> None:
    said = _texts(_draw(_table(tmp_path, Tier.KVM, noise=0.01), Tier.KVM))
    assert "CPU time (cgroup)" in said
    assert "instructions" not in said


def test_files_are_written_whole_and_alike(tmp_path: Path) -> None:
    table = _table(tmp_path)
    first = figures.write(_draw(table), tmp_path / "a", "overhead")
    second = figures.write(_draw(table), tmp_path / "b", "overhead")
    assert [path.name for path in first] == ["overhead.pdf", "overhead.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["overhead.pdf", "overhead.png"]
    assert first[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("ratio", "low", "high", "said"),
    [
        (1.018, 1.0175, 1.0186, "+1.80 % [+1.75, +1.86]"),
        (4.1, 3.9, 4.3, "+310 % [+290, +330]"),
        (0.98, 0.97, 0.99, "~2.0 % [~3.0, ~1.0]"),
        (1.0, 1.0, 1.0, "0.0000 % [0.0000, 0.0000]"),
        (1.5, 0.0, float("inf"), "+50.00 % (too few blocks for an interval)"),
    ],
)
def test_overhead_in_words(ratio: float, low: float, high: float, said: str) -> None:
    assert words.overhead(ratio, low, high) == said.replace("~", words.MINUS)


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "said"),
    [
        (7.56e6, 7.49e6, 7.67e6, "instructions", "+7.56 [+7.49, +7.67] M instructions"),
        (0.0123, 0.011, 0.013, "s", "+12.3 [+11.0, +13.0] ms"),
        (3.0, float("-inf"), float("inf"), "s", "+3.00 s (too few blocks for an interval)"),
    ],
)
def test_amount_in_words(value: float, low: float, high: float, unit: str, said: str) -> None:
    assert words.amount(value, low, high, unit) == said


def test_a_verdict_about_delta_names_it() -> None:
    assert words.conclusion(Conclusion.NO_DETECTABLE_OVERHEAD, 0.005) == "NO DETECTABLE OVERHEAD (±0.5 %)"
    assert words.conclusion(Conclusion.OVERHEAD, 0.005) == "OVERHEAD"


@pytest.mark.parametrize(
    ("end", "ticks"),
    [(60.0, [0, -0.5, 0.5, 5, 50]), (900.0, [0, -0.5, 0.5, 5, 50, 500]), (9000.0, [0, -0.5, 0.5, 50, 5000])],
)
def test_labels_of_a_long_signed_axis_do_not_run_into_each_other(end: float, ticks: list[float]) -> None:
    ax = Figure().subplots()
    ax.set_xscale("symlog", linthresh=0.5)
    ax.set_xlim(-0.9, end)
    canvas.signed_ticks(ax, 0.5)
    assert list(ax.get_xticks()) == ticks
