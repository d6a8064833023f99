"""The plan: pure, the same for the same inputs, another for any input that can change a result."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from testbed import plan as planning
from testbed import plugins
from testbed.errors import SpecError
from testbed.plan import Cell, Plan, resolve, selection, williams
from testbed.record import Tier
from testbed.spec import Experiment

KERNELS = {"debian-6.12": "aa", "debian-6.1": "bb"}
WISH: dict[str, Any] = {
    "name": "mine",
    "question": "?",
    "kernels": ("debian-6.12", "debian-6.1"),
    "runtimes": ("crun", "runc"),
    "measurers": ("none", "none2", "ima-exec"),
    "workloads": ("tools",),
    "blocks": 4,
    "seed": 7,
}


def plan(
    *,
    tier: Tier = Tier.ICOUNT,
    known: Mapping[str, str] = KERNELS,
    inputs: Mapping[str, str] | None = None,
    **wish: Any,
) -> Plan:
    return resolve(Experiment(**WISH | wish), tier=tier, kernels=known, inputs=inputs or {"tools": "cc"})


def test_the_cells_are_the_product_of_the_axes() -> None:
    cells = plan().cells
    points = {(c.kernel, c.runtime, c.measurer, c.workload, c.attack) for c in cells}
    assert len(cells) == len(points) == len({c.id for c in cells}) == 2 * 2 * 3


def test_a_crowd_wants_a_runtime_that_leaves_containers_alone() -> None:
    both: dict[str, Any] = {"runtimes": ("crun", "podman"), "workloads": ("alive-10",)}
    with pytest.raises(SpecError, match="runtime 'podman' cannot") as caught:
        plan(**both)
    assert "[[exclude]]" in caught.value.hint
    left = plan(**both, exclude=({"runtime": "podman", "workload": "alive-10"},))
    assert {cell.runtime for cell in left.cells} == {"crun"}


def test_the_same_inputs_give_the_same_plan() -> None:
    assert plan() == plan()


def test_each_block_is_one_boot_of_one_kernel_with_each_of_its_cells_once() -> None:
    made = plan()
    assert Counter((b.kernel, b.index) for b in made.blocks) == {(k, i): 1 for k in KERNELS for i in range(4)}
    for block in made.blocks:
        assert sorted(c.id for c in block.cells) == sorted(c.id for c in made.cells if c.kernel == block.kernel)


@pytest.mark.parametrize("arms", range(2, 9))
def test_a_williams_square_balances_places_and_predecessors(arms: int) -> None:
    rows = williams(arms)
    places = Counter((place, arm) for row in rows for place, arm in enumerate(row))
    pairs = Counter(pair for row in rows for pair in itertools.pairwise(row))
    assert set(places.values()) == {len(rows) // arms}
    assert len(places) == arms * arms
    assert set(pairs.values()) == {len(rows) // arms}
    assert len(pairs) == arms * (arms - 1)


def test_the_arms_of_a_workload_follow_each_other_in_balanced_order() -> None:
    made = plan(kernels=("debian-6.12",), measurers=("none", "none2", "ima-exec", "hooks-only"), blocks=4)
    assert made.order == "williams"
    for block in made.blocks:
        assert [len(group) for group in block.groups] == [4, 4], "two runtimes"
        for group in block.groups:
            assert len({(block.cells[n].runtime, block.cells[n].workload) for n in group}) == 1
    places: Counter[tuple[str, int, str]] = Counter()
    for block in made.blocks:
        for group in block.groups:
            for place, n in enumerate(group):
                places[block.cells[n].runtime, place, block.cells[n].measurer] += 1
    assert set(places.values()) == {1}


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("builds", [1, 2, 3])
def test_each_build_has_as_many_blocks_and_each_order_as_often(count: int, builds: int) -> None:
    arms, orders = ("none", "none2", "ima-exec", "control")[:count], len(williams(count))
    made = plan(measurers=arms, builds=builds, blocks=builds * orders, kernels=("debian-6.12",), runtimes=("crun",))
    assert Counter(block.build for block in made.blocks) == dict.fromkeys(range(builds), orders)
    seen = Counter((block.build, tuple(cell.measurer for cell in block.cells)) for block in made.blocks)
    if math.gcd(builds, orders) == builds:
        assert set(seen.values()) == {1}, "each build has had each order"
    assert [block.build for block in plan(builds=1).blocks] == [0] * len(plan(builds=1).blocks)


def test_more_builds_than_blocks_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="expected at most one for each of the 4 blocks, got 5"):
        plan(builds=5)


def test_the_order_differs_between_blocks_and_follows_the_seed() -> None:
    orders = {tuple(c.id for c in b.cells) for b in plan(blocks=20).blocks if b.kernel == "debian-6.12"}
    assert len(orders) > 10
    other = plan(blocks=20, seed=8)
    assert [b.cells for b in other.blocks] != [b.cells for b in plan(blocks=20).blocks]


@pytest.mark.parametrize(
    "change",
    [
        {"tier": Tier.TCG},
        {"known": KERNELS | {"debian-6.12": "ab"}},
        {"inputs": {"tools": "cd"}},
        {"inputs": {"tools": "cc", "qemu": "9"}},
        {"warmups": 2},
        {"iterations": 2},
        {"machine": {"pcr_banks": ("sha1", "sha256")}},
        {"machine": {"memory_mib": 2048}},
        {"machine": {"command_line": "distribution"}},
        {"start": "boot"},
        {"store": "verity"},
        {"bpf_stats": True},
        {"limits": {"guest_steal": 0.03}},
        {"limits": {"host_steal": 0.03}},
        {"limits": {"host_pressure": 11.0}},
        {"limits": {"tries": 4}},
    ],
    ids=str,
)
def test_whatever_can_change_a_result_changes_its_cell(change: dict[str, Any]) -> None:
    before, after = ({c.id for c in p.cells if c.kernel == "debian-6.12"} for p in (plan(), plan(**change)))
    assert not before & after


# Keys of an experiment that no cell's id contains: they say what is asked, how often, and in which order.
# The digests of all builds' disks are in that of the kernel.
OUTSIDE = {"name", "question", "tier", "exclude", "baseline", "duplicate", "blocks", "builds", "seed", "delta"}


def test_each_key_of_an_experiment_is_inside_the_id_or_outside() -> None:
    """A key that `resolve` does not know of must be a decision here, and not a result that is reused wrongly."""
    axes = {"kernels", "runtimes", "measurers", "workloads", "attacks"}
    inside = {"warmups", "iterations", "machine", "start", "store", "bpf_stats", "limits"}
    # In the digest of their arm, and of the machine's command line.
    digested = {"ima_policies", "kernel_args"}
    assert set(Experiment.model_fields) == OUTSIDE | axes | inside | digested


@pytest.mark.parametrize(
    ("family", "name"),
    [("runtimes", "crun"), ("measurers", "none2"), ("workloads", "tools"), ("attacks", "none")],
)
def test_the_source_of_a_plugin_changes_its_cells_and_no_others(
    family: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plan().cells
    digest = plugins.source_digest

    def changed(of: str, plugin: str) -> str:
        return "changed" if (of, plugin) == (family, name) else digest(of, plugin)

    monkeypatch.setattr(plugins, "source_digest", changed)
    for old, new in zip(before, plan().cells, strict=True):
        assert (old.id != new.id) is (getattr(old, family[:-1]) == name)


def test_a_counted_clock_has_one_processor() -> None:
    several: dict[str, Any] = {"machine": {"vcpus": 2}}
    with pytest.raises(SpecError, match="has one virtual CPU, got 2"):
        plan(**several)
    assert not {c.id for c in plan(tier=Tier.TCG, **several).cells} & {c.id for c in plan(tier=Tier.TCG).cells}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"blocks": 5},
        {"builds": 2},
        {"question": "!"},
        {"delta": 0.1},
        {"name": "yours"},
        {"baseline": "none2", "duplicate": "none"},
        {"exclude": ({"workload": "files-10"},)},
        {"machine": {"pcr_banks": ("sha256",)}},
        {"machine": {"command_line": "tuned"}},
        {"known": {**KERNELS, "debian-7": "cc"}},
        {"measurers": ("ima-exec", "none2", "none")},
    ],
    ids=str,
)
def test_what_cannot_change_a_result_leaves_its_cell(change: dict[str, Any]) -> None:
    assert {c.id for c in plan(**change).cells} == {c.id for c in plan().cells}


def test_one_kernel_that_changes_leaves_the_cells_of_the_other() -> None:
    after = plan(known=KERNELS | {"debian-6.12": "ab"})
    assert {c.id for c in after.cells if c.kernel == "debian-6.1"} <= {c.id for c in plan().cells}


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"blocks": 5}, {"builds": 2}, {"tier": Tier.KVM}, {"runtimes": ("crun",)}], ids=str
)
def test_a_campaign_is_named_by_what_is_done(change: dict[str, Any]) -> None:
    names = plan().campaign, plan(**change).campaign
    assert names[0] != names[1]
    assert names[1].startswith(f"mine-{change.get('tier', 'icount')}-")


def test_a_key_of_the_machine_that_came_later_leaves_the_ids_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids were made of the three keys that a machine had before ``command_line``."""
    before, keys = plan(), {"vcpus", "memory_mib", "pcr_banks"}
    monkeypatch.setattr(planning, "_machine", lambda shape: shape.model_dump(include=keys))
    assert plan() == before


def test_an_exclude_takes_out_what_matches_in_all_that_it_names() -> None:
    cells = plan(exclude=({"runtime": "runc", "measurer": "none2"},)).cells
    assert len(cells) == 2 * 2 * 3 - 2
    assert not [c for c in cells if c.runtime == "runc" and c.measurer == "none2"]


def test_a_kernel_without_cells_has_no_blocks() -> None:
    assert {b.kernel for b in plan(exclude=({"kernel": "debian-6.1"},)).blocks} == {"debian-6.12"}


def test_an_exclude_that_names_nothing_takes_out_nothing() -> None:
    assert plan(exclude=({},)) == plan()


def test_an_empty_product_is_a_mistake() -> None:
    with pytest.raises(SpecError, match="mine: the excludes remove every cell") as caught:
        plan(exclude=({"workload": "tools"},))
    assert caught.value.hint


@pytest.mark.parametrize("axis", ["kernels", "runtimes", "measurers", "workloads", "attacks"])
def test_a_name_that_does_not_exist_gets_the_list(axis: str) -> None:
    with pytest.raises(SpecError, match=f"no {axis[:-1]} 'absent'") as caught:
        plan(**(WISH | {axis: (*WISH.get(axis, ("none",)), "absent")}))
    assert "there are: " in caught.value.hint
    assert WISH.get(axis, ("none",))[0] in caught.value.hint


@pytest.mark.parametrize("runtime", ["crun", "podman"])
@pytest.mark.parametrize("workload", ["tools", "pod"])
def test_only_a_pod_with_a_runtime_that_starts_none_needs_an_exclude(runtime: str, workload: str) -> None:
    wish: dict[str, Any] = {"runtimes": (runtime,), "workloads": (workload, "exec-static")}
    if (runtime, workload) != ("podman", "pod"):
        plan(**wish)
        return
    for other in ({"runtime": "podman", "workload": "exec-static"}, {"runtime": "crun", "workload": "pod"}):
        with pytest.raises(SpecError, match="is a pod, and runtime 'podman' does not start pods") as caught:
            plan(**wish, exclude=(other,))
        assert caught.value.hint == 'add [[exclude]] with runtime = "podman" and workload = "pod"'
    for enough in ({"runtime": "podman", "workload": "pod"}, {"workload": "pod"}):
        plan(**wish, exclude=(enough,))


@pytest.mark.parametrize(
    ("measurer", "workload", "warmups", "allowed"),
    [
        ("control", "tools", 1, True),
        ("control", "tools", 0, False),
        ("control", "start-cold", 1, False),
        ("control", "start-cold", 0, False),
        ("ima-exec", "tools", 0, True),
        ("ima-exec", "start-cold", 1, True),
    ],
)
def test_a_control_needs_a_warm_up_whose_price_it_can_take_a_share_of(
    measurer: str, workload: str, warmups: int, allowed: bool
) -> None:
    wish: dict[str, Any] = {"measurers": ("none", measurer), "workloads": (workload,), "warmups": warmups}
    if allowed:
        plan(**wish)
        return
    with pytest.raises(SpecError, match="wastes a share"):
        plan(**wish)


def test_a_selection_takes_the_cells_that_each_wish_names() -> None:
    cells = plan().cells
    for wishes, expected in (
        ([], set(itertools.product(("crun", "runc"), ("none", "none2", "ima-exec")))),
        (["runtime=runc"], set(itertools.product(("runc",), ("none", "none2", "ima-exec")))),
        (["runtime=runc", "measurer=none,none2"], {("runc", "none"), ("runc", "none2")}),
        (["measurer=none", "measurer=none2", "runtime=crun"], {("crun", "none"), ("crun", "none2")}),
        (["attack=other"], set()),
    ):
        wanted = selection(wishes)
        assert {(cell.runtime, cell.measurer) for cell in cells if wanted(cell)} == expected


@pytest.mark.parametrize("wish", ["runtimes=crun", "inputs=aa", "runtime=", "runtime", "=crun", ""])
def test_a_selection_that_names_no_axis_or_no_name_is_a_mistake(wish: str) -> None:
    with pytest.raises(SpecError, match="expected AXIS=NAME") as caught:
        selection([wish])
    assert caught.value.hint == "axes: kernel, runtime, measurer, workload, attack"


def test_an_id_and_a_campaigns_name_are_short_and_stay_as_they_are() -> None:
    """Results that exist are found by these: another form of either makes each of them a stranger."""
    cell = Cell(kernel="k", runtime="r", measurer="m", workload="w", attack="none", inputs="0" * 64)
    assert (
        cell.id
        == hashlib.sha256(
            b'{"attack":"none","inputs":"%s","kernel":"k","measurer":"m","runtime":"r","workload":"w"}' % (b"0" * 64)
        ).hexdigest()[:12]
    )
    assert re.fullmatch("mine-icount-[0-9a-f]{8}", plan().campaign)
    assert plan(inputs={"a": "1", "b": "2"}) == plan(inputs={"b": "2", "a": "1"})


def test_a_runtime_with_a_store_of_its_own_has_no_fs_verity() -> None:
    assert plan(store="verity").cells
    with pytest.raises(SpecError, match="'podman' loads images into a store of its own") as error:
        plan(store="verity", runtimes=("crun", "podman"))
    assert "crun" in error.value.hint
