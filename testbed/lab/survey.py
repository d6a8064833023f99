"""Every kernel with every measurer: does it build, load and behave? A failure is recorded, not raised."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from testbed import plan, progress
from testbed.errors import BuildError, DeployError, LabError
from testbed.lab import campaign, facts, repository
from testbed.lab.build import cache, kernel
from testbed.lab.build.measurer import build_bundle, build_seconds
from testbed.plan import Cell
from testbed.spec import Experiment
from testbed.surveys import Survey, Tried, write_survey


def survey(experiment: Experiment, *, results: Path, tier: str | None, connect: str | None) -> Path:
    """Try every kernel of an experiment, each in a campaign of its own, one after the other. Return the file.

    It is written after each kernel. Raises ``SpecError`` and ``HostError``, because they would affect every kernel.
    """
    plan.check_names(experiment, kernel.load_kernels())
    done: list[Tried] = []
    path = results / f"{experiment.name}.json"
    for name in progress.each(experiment.kernels, experiment.name, unit="kernels"):
        done.append(_try(name, experiment, results=results, tier=tier, connect=connect))
        known = {"tier": str(tier or experiment.tier)} | facts.emulator()
        tried = Survey(name=experiment.name, measurers=experiment.measurers, host=known, kernels=tuple(done))
        path = write_survey(results, tried)
    return path


def _try(name: str, experiment: Experiment, *, results: Path, tier: str | None, connect: str | None) -> Tried:
    tried = Tried(kernel=name)

    def refused(cell: Cell, error: DeployError) -> None:
        tried.refused[cell.measurer] = error.message

    try:
        built = kernel.build_kernel(kernel.load_kernels()[name])
        tried = replace(tried, release=built.release, version=kernel.package_version(built))
        tried = replace(tried, seconds=build_seconds(build_bundle(built, repository.BPF)))
        alone = experiment.model_copy(update={"name": f"{experiment.name}-{name}", "kernels": (name,)})
        ran = campaign.conduct(alone, results=results, tier=tier, connect=connect, machines=1, refused=refused)
    except (BuildError, LabError) as error:
        # The message goes into a page that is committed, so it must not name the cache of this host.
        return replace(tried, problem=error.message.replace(str(cache.root()), "CACHE"))
    if tried.refused:
        # The saved machine of a campaign that is not complete stays, so that it can be resumed: here nothing is.
        shutil.rmtree(campaign.saves(ran), ignore_errors=True)
    return replace(tried, campaign=ran.path.name)
