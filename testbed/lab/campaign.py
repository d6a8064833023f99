"""A campaign from its experiment to its runs on disk: choose the tier, build, plan, write it down, run."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from testbed import estimate, plan, plugins, progress, rundir
from testbed.errors import SpecError
from testbed.files import replacing
from testbed.lab import block, facts, iterate, places, probe, provenance, repository, runner
from testbed.lab.block import Parts
from testbed.lab.build import cache, local
from testbed.lab.build.image import ContainerImage, build_container_image, build_image, load_containers, load_guests
from testbed.lab.build.kernel import KernelRecipe, build_kernel, load_kernels
from testbed.lab.build.measurer import build_bundle, build_products
from testbed.lab.build.store import build_store
from testbed.lab.machines.domain import MachineSpec, check_words, command_line, masked
from testbed.record import MadeBy, Tier
from testbed.spec import TUNED, Experiment

GUEST = "trixie"
# The facts about its origin that a campaign records; its records also have the settings of their machines.
_CODE = ("version", "sources", "commit", "dirty")


def conduct(
    experiment: Experiment,
    *,
    results: Path,
    tier: str | None,
    connect: str | None,
    machines: int | None,
    refused: runner.Refused | None = None,
    only: Sequence[str] = (),
    max_minutes: float | None = None,
    kernel_path: Path | None = None,
) -> rundir.Campaign:
    """Run an experiment to the end of its plan; what is complete is skipped. Return where it is.

    ``tier``: instead of the experiment's; ``machines``: how many at a time; ``refused``: see
    ``runner.RunningCampaign``; ``only``: the cells to run now (``plan.selection``); ``max_minutes``: do not begin what
    is expected to take longer; ``kernel_path``: a kernel that the user built (``build.local``), instead of the
    experiment's kernels. Raises ``SpecError``, ``HostError``, ``BuildError``, ``LabError``; what was recorded before is
    kept.
    """
    wanted = plan.selection(only)
    experiment, recipes = with_kernel(experiment, kernel_path)
    plan.check_names(experiment, recipes)
    check_words(experiment.kernel_args)
    # Now, so that nothing is built on a desk, which has no libvirt. A desk imports this module to plan.
    from testbed.lab.machines.lab import open_lab  # noqa: PLC0415

    places.check(*places.always(), places.results(results))
    made_by = provenance.made_by()
    with progress.reporter(experiment.name, 0) as reporter:
        wish = experiment.kernels[0] if kernel_path is None else local.PATTERN
        chosen, why = probe.choose_tier(tier or experiment.tier, wish, reporter.say)
        reporter.say(f"tier {chosen}: {why}")
        check_words(experiment.kernel_args, chosen, tuned=experiment.machine.command_line == TUNED)
        parts = build(experiment, chosen, reporter.say, recipes)
    decided = decide(experiment, chosen, parts)
    campaign = rundir.Campaign(path=results / decided.campaign)
    known = _shared_facts(chosen, parts) | ({} if experiment.store == "plain" else {"store": experiment.store})
    with rundir.alone(campaign):
        _write_down(campaign, experiment, decided, parts, known | _code_facts(made_by))
        job = runner.RunningCampaign(
            experiment=experiment,
            plan=decided,
            campaign=campaign,
            parts=parts,
            saves=saves(campaign),
            facts=known,
            refused=refused,
            wanted=wanted,
            made_by=made_by,
        )
        at_a_time = machines or default_machines(chosen)
        todo = [[block.cells[n] for n in (*job.missing(block), *job.disturbed(block))] for block in decided.blocks]
        expected = estimate.estimate(chosen, todo, estimate.history(results), at_a_time)
        check_time(expected, max_minutes)
        if expected.runs:
            with open_lab(connect) as lab, progress.reporter(decided.campaign, expected.runs) as reporter:
                reporter.say(f"{expected.runs} runs in {expected.boots} blocks, about {expected.minutes:.0f} min")
                runner.run(lab, job, reporter, at_a_time)
    return campaign


def with_kernel(experiment: Experiment, path: Path | None) -> tuple[Experiment, dict[str, KernelRecipe]]:
    """Return the experiment and all kernels by name; with ``path`` the kernel there is the experiment's only one.

    Raises ``SpecError`` and ``BuildError`` if it cannot be used.
    """
    recipes = load_kernels()
    if path is None:
        return experiment, recipes
    own = local.recipe(path, recipes[local.PATTERN])
    return experiment.model_copy(update={"kernels": (own.name,)}), recipes | {own.name: own}


def saves(campaign: rundir.Campaign) -> Path:
    """Return where the saved machines of a campaign's unfinished blocks are: no two campaigns have one place.

    Its name alone is no place of its own: an experiment that is run twice, into two directories, has it twice.
    """
    where = hashlib.sha256(os.fsencode(campaign.path.absolute())).hexdigest()[:8]
    return cache.root() / "saves" / f"{campaign.path.name}-{where}"


def check_time(expected: estimate.PlanEstimate, max_minutes: float | None) -> None:
    """Raise ``SpecError`` if more than ``max_minutes`` are expected."""
    if max_minutes is not None and expected.minutes > max_minutes:
        raise SpecError(
            f"{expected.runs} runs in {expected.boots} blocks: about {expected.minutes:.0f} min, but at most "
            f"{max_minutes:g} min are allowed",
            "raise --max-minutes, or run fewer cells (--only workload=NAME) or fewer blocks",
        )


def build(
    experiment: Experiment, tier: Tier, say: cache.Progress, kernels: Mapping[str, KernelRecipe] | None = None
) -> dict[str, Parts]:
    """Build what the experiment needs, or take it from the cache; by kernel.

    ``kernels``: the recipes by name, by default those of ``images/kernels/``.
    """
    wanted = sorted({plugins.workload(name).image for name in experiment.workloads})
    containers = load_containers()
    images = tuple(build_container_image(containers[name], say) for name in wanted)
    return {name: build_parts(name, images, experiment, tier, say, kernels=kernels) for name in experiment.kernels}


def build_parts(
    name: str,
    images: tuple[ContainerImage, ...],
    experiment: Experiment,
    tier: Tier,
    say: cache.Progress,
    *,
    kernels: Mapping[str, KernelRecipe] | None = None,
) -> Parts:
    """Build one kernel's parts, or take them from the cache. ``kernels``: see ``build``."""
    recipe, guest = (kernels or load_kernels())[name], load_guests()[GUEST]
    kernel = build_kernel(recipe, say)
    with_verity = experiment.store == "verity"
    machine = MachineSpec(
        name=name,
        kernel=kernel,
        image=build_image(guest, kernel, say),
        tier=tier,
        vcpus=experiment.machine.vcpus,
        memory_mib=experiment.machine.memory_mib,
        pcr_banks=experiment.machine.pcr_banks,
        unmasked=recipe.processor,
        kernel_words=experiment.kernel_args,
        tuned=experiment.machine.command_line == TUNED,
        store=build_store(images, guest, say, with_verity=with_verity).disk if images else None,
    )
    rebuilt = tuple(
        replace(
            machine,
            image=build_image(guest, kernel, say, layout=layout),
            store=build_store(images, guest, say, with_verity=with_verity, layout=layout).disk if images else None,
        )
        for layout in range(1, experiment.builds)
    )
    wanted = (plugins.measurer(measurer) for measurer in experiment.measurers)
    sources = {measurer.name: measurer.source for measurer in wanted if measurer.source is not None}
    products = {measurer: build_products(kernel, measurer, source, say) for measurer, source in sources.items()}
    bundle = build_bundle(kernel, repository.BPF, say)
    return Parts(machine=machine, bundle=bundle, images=images, products=products, rebuilt=rebuilt)


def decide(experiment: Experiment, tier: Tier, parts: dict[str, Parts]) -> plan.Plan:
    """Resolve the experiment with the digests of what was built and of what runs it."""
    kernels = {name: plan.digest(_digests(part)) for name, part in parts.items()}
    inputs = {image.name: image.digest for part in parts.values() for image in part.images} | facts.emulator()
    inputs |= {"driver": iterate.source_digest(), "block": block.source_digest()}
    products = {
        (name, measurer): made.digest for name, part in parts.items() for measurer, made in part.products.items()
    }
    return plan.resolve(experiment, tier=tier, kernels=kernels, inputs=inputs, products=products)


def default_machines(tier: Tier) -> int:
    """Return how many machines run at a time: under KVM one, as they would disturb each other's clocks."""
    return 1 if tier is Tier.KVM else max(1, min(4, os.cpu_count() or 1))


def _digests(part: Parts) -> dict[str, Any]:
    machine = part.machine
    builds = [{"layout": number, "image": one.image.digest} for number, one in enumerate(part.machines)]
    # Of a single build only its image, as before there were several: the ids of cells follow from this.
    return ({"builds": builds} if part.rebuilt else {}) | {
        "kernel": machine.kernel.digest,
        "image": machine.image.digest,
        "measurer": part.bundle.digest,
        "cpu": " -".join((machine.cpu, *masked(machine))),
        "command_line": command_line(machine, ""),
    }


def _shared_facts(tier: Tier, parts: dict[str, Parts]) -> dict[str, Any]:
    images = {image.name: image.digest for part in parts.values() for image in part.images}
    return {"tier": tier, "images": images} | facts.emulator()


def _code_facts(made_by: MadeBy) -> dict[str, Any]:
    code = asdict(made_by)
    return {"command": code["command"], "made_by": {name: code[name] for name in _CODE}}


def _write_down(
    campaign: rundir.Campaign,
    experiment: Experiment,
    decided: plan.Plan,
    parts: dict[str, Parts],
    known: dict[str, Any],
) -> None:
    """Write plan, facts and container images before the first boot; a campaign that exists keeps what it has."""
    for image in {image for part in parts.values() for image in part.images}:
        _keep(image.archive, campaign.image_path(image.name))
    if campaign.plan_file.exists():
        return
    built = {name: _digests(part) | {"release": part.machine.kernel.release} for name, part in parts.items()}
    said = {"experiment": experiment.model_dump(mode="json"), "kernels": built, "host": facts.host()}
    rundir.write_json(campaign.facts_file, {"schema": 1, "campaign": decided.campaign} | said | known)
    rundir.write_plan(campaign, decided)


def _keep(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as beside:
            shutil.copyfile(source, beside)
