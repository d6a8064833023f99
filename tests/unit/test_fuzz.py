"""A bounded run of every fuzz target: the same inputs each time, so many that all of them take about a minute."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

guard, inputs = importlib.import_module("guard"), importlib.import_module("inputs")
TARGETS = importlib.import_module("targets").TARGETS

EXAMPLES = {"log": 1200, "evidence": 600, "ascii": 200, "policy": 1200, "image": 300}
OTHERS = 1500


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    """What is honest passes every target, and within its bounds."""
    target = TARGETS[name]
    seeds = target.seeds()
    least, each = target.steps
    assert seeds
    for seed in seeds:
        target.run(seed)
        with guard.few_steps(least + each * len(seed)):
            target.run(seed)


# Without coverage: it would take twice as long, and what these inputs reach is not the same everywhere.
@pytest.mark.no_cover
@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    target = TARGETS[name]
    least, each = target.steps

    @settings(
        max_examples=EXAMPLES.get(name, OTHERS),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs.of(target))
    def run(data: bytes) -> None:
        with guard.few_steps(least + each * len(data)):
            target.run(data)

    with guard.little_memory():
        run()


def test_make_fuzz_runs_every_target() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    (named,) = re.findall(r"^FUZZ_TARGETS := (.*)$", makefile, re.MULTILINE)
    assert named.split() == list(TARGETS)


def test_an_endless_loop_is_noticed() -> None:
    def endless() -> None:
        while True:
            len(b"")

    with pytest.raises(guard.TooManySteps), guard.few_steps(1000):
        endless()


def test_memory_in_proportion_to_a_length_field_is_noticed() -> None:
    with pytest.raises(MemoryError), guard.little_memory():
        bytes(0xFFFFFFFF)


@settings(deadline=None)
@given(st.sampled_from([b"", b"abc"]).flatmap(lambda seed: inputs.mutated([seed], (b"w",))))
def test_inputs_are_bytes(data: bytes) -> None:
    assert isinstance(data, bytes)
