"""A measurer's rung and prices come from its own file, also those of one that the code has never heard of."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_campaign import PRICES, RUNGS, WORKLOADS, build
from test_attribution import truth

from testbed import plugins
from testbed.analysis.figures import canvas
from testbed.analysis.report import draw, event_costs
from testbed.analysis.tables import costmodel, tables
from testbed.analysis.tables.ladder import climb
from testbed.errors import SpecError
from testbed.measurers import BASELINE, Measurer, Step
from testbed.rundir import load

STEP = Step(name="planted", title="a planted step", arm="planted", over=(BASELINE,), terms=("decisions",))
PLANTED = Measurer(name="planted", summary="nobody knows it", rung=35, steps=(STEP,))


def plant(monkeypatch: pytest.MonkeyPatch, measurer: Measurer) -> None:
    names, one = plugins.names, plugins.measurer
    monkeypatch.setattr(
        plugins,
        "names",
        lambda family: tuple(sorted((*names(family), measurer.name))) if family == "measurers" else names(family),
    )
    monkeypatch.setattr(plugins, "measurer", lambda name: measurer if name == measurer.name else one(name))


def test_a_planted_measurer_is_on_the_ladder_in_a_figure_and_priced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, PLANTED)
    campaign = build(tmp_path, arms=(*RUNGS, "planted"), workloads=WORKLOADS, noise=1e-6)
    known = tables.read(load(campaign), truth=truth())
    order = list(dict.fromkeys(known.ladder["treatment"]))
    assert order == ["ima-exec", "hooks-only", "planted", "container-file", "container-image"]
    figure = draw.overhead(known)
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == order * len(WORKLOADS)
    (fit,) = (fit for fit in known.fits if fit.step is STEP)
    assert fit.prices["decisions"].center == pytest.approx(PRICES["hook"], rel=0.05)
    assert "| a planted step | `planted` |" in "\n".join(event_costs.section(known, {}))
    assert "planted" in set(known.predictions["arm"])


def test_without_a_rung_it_comes_last_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, Measurer(name="aaa", summary="no rung"))
    names = ["nonesuch", "aaa", "container-image", "none", "hooks-only", "none3"]
    assert sorted(names, key=climb) == ["none", "hooks-only", "container-image", "aaa", "none3", "nonesuch"]


def test_a_second_step_of_one_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    again = Step(name="file", title="?", arm="planted", over=(BASELINE,), terms=("bytes",))
    plant(monkeypatch, Measurer(name="planted", summary="", rung=35, steps=(again,)))
    with pytest.raises(SpecError, match="'file' is also a step of planted"):
        costmodel.steps()


@pytest.mark.parametrize("name", plugins.names("measurers"))
def test_a_step_is_of_its_own_measurer_and_over_one_that_exists(name: str) -> None:
    for step in plugins.measurer(name).steps:
        assert step.arm == name
        assert set(step.over) <= {BASELINE, *plugins.names("measurers")}
        assert step.terms


def test_rungs_differ_and_each_has_a_look_of_its_own() -> None:
    rungs = [plugins.measurer(name).rung for name in plugins.names("measurers")]
    known = [rung for rung in rungs if rung is not None]
    assert len(set(known)) == len(known) == 10
    looks = [canvas.look(name) for name in (*RUNGS, "container-drift")]
    assert len({(look.colour, look.marker) for look in looks}) == len(looks)


@pytest.mark.parametrize(
    ("arm", "cold", "steps"),
    [
        ("ima-exec", False, ["ima"]),
        ("hooks-only", False, ["hook"]),
        ("container-file", True, ["hook", "content"]),
        ("container-image", False, ["hook", "file", "launch"]),
        ("container-image", True, ["hook", "content", "image"]),
        ("container-drift", False, ["hook", "drift"]),
        ("container-drift", True, ["hook", "drift-image"]),
        ("none", False, []),
    ],
)
def test_a_chain_follows_from_the_steps(arm: str, *, cold: bool, steps: list[str]) -> None:
    assert [step.name for step in costmodel.chain(arm, cold=cold)] == steps
