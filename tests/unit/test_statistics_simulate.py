"""What the verdicts are worth: 2,000 seeded campaigns with injected noise, judged by what judges real ones."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from testbed.analysis.statistics import simulate
from testbed.analysis.statistics.simulate import COUNTED, TIMED, Design, Noise, Rates
from testbed.commands.simulate import command as simulate_command

DESIGNS = {
    "counted": COUNTED,
    "timed": TIMED,
    "timed, 12 blocks": replace(TIMED, blocks=12),
    "counted, servers": replace(
        COUNTED, noise=replace(COUNTED.noise, arm=0.001, boot_arm=0.001, spike=0.005, spikes=0.02)
    ),
}


@functools.cache
def simulated(name: str) -> tuple[Rates, ...]:
    return simulate.rates(DESIGNS[name], simulate.usual_truths(DESIGNS[name]))


@pytest.mark.parametrize("name", DESIGNS)
def test_what_costs_nothing_is_seldom_called_anything_else(name: str) -> None:
    null, *_ = simulated(name)
    assert null.truth == 0
    assert null.found <= 0.05


@pytest.mark.parametrize("name", DESIGNS)
def test_stated_smallest_effect_is_found_as_often_as_stated(name: str) -> None:
    assert simulated(name)[1].found >= 0.80


@pytest.mark.parametrize("name", DESIGNS)
def test_interval_holds_the_truth(name: str) -> None:
    assert min(rates.covered for rates in simulated(name)) >= 0.93


@pytest.mark.parametrize("name", DESIGNS)
def test_an_effect_of_delta_is_seldom_called_equal(name: str) -> None:
    *_, more, less = simulated(name)
    assert (more.truth, less.truth) == (math.log1p(DESIGNS[name].delta), math.log1p(-DESIGNS[name].delta))
    assert max(more.equal, less.equal) <= 0.05


@pytest.mark.parametrize("name", DESIGNS)
def test_a_sound_campaign_is_seldom_invalid(name: str) -> None:
    assert simulated(name)[0].invalid <= 0.05


def test_few_instructions_show_that_nothing_costs_nothing() -> None:
    assert simulated("counted")[0].equal >= 0.95


def test_holm_holds_for_all_arms_together_where_raw_p_does_not() -> None:
    raw, adjusted = simulate.family(TIMED, campaigns=1000)
    assert raw > 0.05 >= adjusted


def test_a_fixed_order_is_wrong_and_the_baseline_twice_shows_it() -> None:
    """What the balance is for: the same noise, the same judge, and most intervals miss the truth."""
    (null,) = simulate.rates(replace(TIMED, balanced=False), (0.0,), campaigns=300)
    assert null.covered < 0.7
    assert null.found > 0.05
    assert null.invalid > 0.4


def test_what_an_arm_leaves_to_the_next_is_not_removed_by_the_order() -> None:
    """It falls on the baselines too: an arm that leaves 2 % behind and costs nothing looks cheaper than nothing."""
    quiet = Noise(arm=1e-4, boot=0, boot_arm=0, slot=0, drift=0, spike=0, spikes=0, carry=0.02)
    (null,) = simulate.rates(Design(blocks=24, delta=0.005, noise=quiet), (0.0,), campaigns=50)
    assert null.covered < 0.1


SILENT = Noise(arm=0, boot=0, boot_arm=0, slot=0, drift=0, spike=0, spikes=0)


def measured(noise: Noise, truths: tuple[float, ...] = (0.0, 0.0), **design: bool) -> np.ndarray:
    return np.log(simulate.values(Design(blocks=4, delta=0.01, noise=noise, **design), truths, campaigns=200, seed=3))


def test_without_noise_there_is_only_the_truth() -> None:
    assert measured(SILENT, (0.0, 0.25)) == pytest.approx(np.broadcast_to([0, 0, 0, 0.25], (200, 4, 4)))


def test_each_arm_stands_once_at_each_place() -> None:
    """The place shows in the value; over the four blocks of a square each arm meets all four places."""
    by_place = measured(replace(SILENT, drift=16.0)) % 4
    assert np.sort(by_place, axis=2) == pytest.approx(np.broadcast_to([0, 1, 2, 3], (200, 4, 4)))
    assert np.sort(by_place, axis=1) == pytest.approx(np.broadcast_to(np.arange(4)[:, None], (200, 4, 4)))
    assert len({tuple(campaign.ravel().round()) for campaign in by_place}) > 100


def test_a_fixed_order_puts_each_arm_at_its_place() -> None:
    by_place = measured(replace(SILENT, drift=16.0), balanced=False)
    assert by_place == pytest.approx(np.broadcast_to(np.arange(16.0).reshape(4, 4), (200, 4, 4)))


def test_each_noise_is_of_what_it_says() -> None:
    boots = measured(replace(SILENT, boot=0.1))
    assert boots == pytest.approx(np.broadcast_to(boots[:, :, :1], boots.shape))
    assert boots[:, :, 0].std() == pytest.approx(0.1, rel=0.1)
    for name in ("arm", "boot_arm"):
        assert measured(replace(SILENT, **{name: 0.1})).std() == pytest.approx(0.1, rel=0.1)
    spikes = measured(replace(SILENT, spike=0.5, spikes=0.1))
    assert set(spikes.ravel().round(6)) == {0, 0.5}
    assert (spikes > 0).mean() == pytest.approx(0.1, rel=0.2)
    slots = measured(replace(SILENT, slot=0.1))
    assert slots.std() == pytest.approx(0.1, rel=0.1)
    # Each campaign has four of them, and each arm meets each once.
    assert np.sort(slots, axis=1) == pytest.approx(np.broadcast_to(np.sort(slots, axis=1)[:, :, :1], slots.shape))


def test_the_same_seed_gives_the_same_campaigns() -> None:
    first, again, other = (simulate.rates(COUNTED, (0.004,), campaigns=30, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_command_prints_the_table() -> None:
    result = CliRunner().invoke(simulate_command, ["timed", "--blocks", "12", "--campaigns", "20"])
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].split(" (")[0].strip() for line in lines[2:]] == [
        "no effect",
        "stated smallest effect",
        "δ",
        "-δ",
    ]
    assert "after Holm's correction" in result.output


def test_command_refuses_too_few_blocks() -> None:
    result = CliRunner().invoke(simulate_command, ["counted", "--blocks", "5"])
    assert result.exit_code == 2
