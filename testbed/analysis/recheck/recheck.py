"""Check a campaign of somebody else: step by step, then the claims that its data can judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.analysis.judged import checks
from testbed.analysis.paper import claims, material
from testbed.analysis.paper.claims import ClaimVerdict, JudgedClaim, PaperClaim
from testbed.analysis.recheck import derived, runs, verdicts
from testbed.analysis.recheck.step import RecheckStep
from testbed.analysis.tables import stored, worst_check
from testbed.errors import EvidenceError
from testbed.rundir import Campaign, load


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedResults:
    """One campaign, checked: its steps, and the claims that are about its experiment."""

    path: Path
    steps: tuple[RecheckStep, ...]
    judged: tuple[JudgedClaim, ...]
    reference: bool

    @property
    def exit_status(self) -> int:
        """Return 0 if nothing is wrong and no claim fails, else 1."""
        failed = any(one.verdict is ClaimVerdict.FAILS for one in self.judged)
        return int(failed or not all(step.ok for step in self.steps))


def campaigns(directory: Path) -> list[Path]:
    """Return the campaigns in ``directory``: itself, or those below it. Raises ``EvidenceError`` if there is none."""
    found = [plan.parent for plan in (directory / "plan.json", *sorted(directory.glob("*/plan.json"))) if plan.exists()]
    if not found:
        raise EvidenceError(
            f"{directory}: expected a campaign or a directory of campaigns, got no plan.json",
            "give the directory that `testbed run` made below `results`",
        )
    return found


def check(
    path: Path, stated: Sequence[PaperClaim], done: Callable[[RecheckStep], None] = lambda _: None
) -> CheckedResults:
    """Check one campaign. ``done`` is called after each step: the verdicts of a large one take minutes.

    Raises ``EvidenceError`` and ``IncompatibleRuns`` for what is malformed.
    """
    loaded = load(Campaign(path=path))
    judgements = stored.read(path, worst_check.FILE, checks.SCHEMA.names, checks.SCHEMA)
    makers: tuple[Callable[[], RecheckStep], ...] = (
        lambda: runs.plan(loaded),
        lambda: runs.complete(loaded),
        lambda: runs.records(loaded),
        lambda: verdicts.recheck(loaded, judgements),
        lambda: derived.recheck(loaded, judgements),
    )
    steps = []
    for make in makers:
        steps.append(make())
        done(steps[-1])
    name = material.experiment_of(loaded)
    mine = [claim for claim in stated if claim.experiment == name]
    data = material.gather([loaded], ()) if mine else None
    return CheckedResults(
        path=path,
        steps=tuple(steps),
        judged=claims.judge(mine, data) if data is not None else (),
        reference=stored.is_reference(path),
    )
