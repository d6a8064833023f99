"""Check somebody else's results in DIR: are they complete and consistent, and which claims hold?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from testbed.analysis.paper import claims, page
from testbed.analysis.paper.claims import PaperClaim
from testbed.analysis.recheck import recheck
from testbed.analysis.recheck.recheck import CheckedResults
from testbed.analysis.tables import stored
from testbed.commands._complete import CampaignPath
from testbed.commands._options import MEASURER_PATH
from testbed.lab import repository

SCHEMA = 1
_TRUST = (
    "What this does not show: that the runs happened as their records say. Who made the results could have made up the "
    "records; the signed evidence of a run is the part that a TPM vouches for."
)


@click.command("check-results")
@click.argument("directory", type=CampaignPath(), metavar="DIR")
@MEASURER_PATH
@click.option(
    "--claims",
    "claims_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Judge the claims in this file instead of those in claims.toml.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(context: click.Context, *, directory: Path, claims_file: Path | None, as_json: bool) -> None:
    """Check somebody else's results in DIR: are they complete and consistent, and which claims hold?

    DIR is a campaign, or has campaigns in it. Nothing in it is changed. The verdicts on runs whose evidence is there
    are made again, and the tables are computed again from the records.

    Exit status: 0 complete, consistent, and no claim fails; 1 something is missing or inconsistent, or a claim does
    not hold; 2 wrong arguments; 4 a record or a table is malformed, or runs must not be pooled.
    """
    stated = claims.read(claims_file or repository.needed(repository.ROOT / "claims.toml"))
    paths = recheck.campaigns(directory)
    if as_json:
        checked = [recheck.check(path, stated) for path in paths]
        click.echo(json.dumps({"schema": SCHEMA, "campaigns": [_json(one) for one in checked]}, indent=1))
    else:
        checked = [_checked(path, stated) for path in paths]
        click.echo(_TRUST)
    context.exit(max(one.exit_status for one in checked))


def _checked(path: Path, stated: Sequence[PaperClaim]) -> CheckedResults:
    """Check a campaign, and print each step as soon as it is done."""
    kind = " (a reference data set: it has the evidence of some runs)" if stored.is_reference(path) else ""
    click.echo(f"{path}{kind}")
    one = recheck.check(path, stated, lambda step: click.echo("\n".join(step.lines())))
    click.echo("\n".join(page.claim_lines(one.judged)) if one.judged else "no claim is about this experiment")
    return one


def _json(one: CheckedResults) -> dict[str, object]:
    return {
        "path": str(one.path),
        "reference": one.reference,
        "steps": [step.as_json() for step in one.steps],
        "claims": [claim.as_json() for claim in one.judged],
        "exit_status": one.exit_status,
    }
