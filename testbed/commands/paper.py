"""Draw the figures and tables of a paper from each CAMPAIGN_DIR, and judge its claims; no machine boots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from testbed.analysis.paper import claims, material, page, paper, slides
from testbed.analysis.tables import stored
from testbed.commands._complete import CampaignPath
from testbed.commands._options import MEASURER_PATH
from testbed.errors import SpecError
from testbed.lab import repository
from testbed.rundir import Campaign, LoadedCampaign, load

_REFERENCE = ("results/reference", "results/reference-paper")
_SLIDES = "tests/golden/slides"
_CLAIMS = "claims.toml"


@click.command("paper")
@click.argument(
    "campaigns",
    nargs=-1,
    type=CampaignPath(),
    metavar="[CAMPAIGN_DIR]...",
)
@MEASURER_PATH
@click.option(
    *("--output", "-o"),
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/paper"),
    show_default=True,
    help="Where everything is written.",
)
@click.option(
    "--newest",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RESULTS",
    help="Take the newest campaign below RESULTS of each experiment that a claim names.",
)
@click.option(
    "--claims",
    "claims_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Judge the claims in this file instead of those in claims.toml.",
)
@click.pass_context
def command(
    context: click.Context,
    *,
    campaigns: tuple[Path, ...],
    output: Path,
    newest: Path | None,
    claims_file: Path | None,
) -> None:
    """Draw the figures and tables of a paper from each CAMPAIGN_DIR, and judge its claims; no machine boots.

    Without CAMPAIGN_DIR it uses the reference data of the repository. It writes vector figures (PDF, SVG), tables
    (LaTeX, Markdown), claims.json, and paper.md, which shows them all. The same data gives the same bytes.

    Exit status: 0 no claim fails (some may not be judged); 1 a claim does not hold; 2 wrong arguments; 4 records are
    malformed.
    """
    if campaigns and newest is not None:
        raise click.UsageError("give CAMPAIGNS or --newest, not both")
    stated = claims.read(claims_file or repository.needed(repository.ROOT / _CLAIMS))
    if newest is not None:
        paths: Iterable[Path] = _newest(newest, {claim.experiment for claim in stated})
    else:
        paths = campaigns or [repository.needed(repository.ROOT / name) for name in _REFERENCE]
    listings = slides.read(repository.needed(repository.ROOT / _SLIDES))
    data = material.gather(_loaded(paths), listings)
    click.echo(f"drawing figures and tables into {output}", err=True)
    written = paper.write(data, stated, output)
    click.echo("\n".join(page.claim_lines(written.judged)))
    click.echo(f"{len(written.files)} files; start with {written.page}")
    context.exit(written.exit_status)


def _loaded(paths: Iterable[Path]) -> Iterator[LoadedCampaign]:
    """Load each campaign when its turn comes, and say so: its tables take seconds."""
    for path in paths:
        click.echo(f"{path}: computing its tables", err=True)
        yield load(Campaign(path=path))


def _newest(results: Path, experiments: set[str]) -> list[Path]:
    """Return the newest campaign of each experiment that has one. Raises ``SpecError`` if none has."""
    found: dict[str, LoadedCampaign] = {}
    plans = sorted(results.glob("*/plan.json"), key=lambda path: (path.stat().st_mtime_ns, str(path)))
    for plan in plans:
        if stored.is_reference(plan.parent):
            continue
        loaded = load(Campaign(path=plan.parent))
        if (name := material.experiment_of(loaded)) in experiments:
            found[name] = loaded
    if not found:
        names = ", ".join(sorted(experiments))
        raise SpecError(f"{results}: no campaign of {names}", "run `make paper-full`, or leave --newest out")
    return [loaded.campaign.path for loaded in found.values()]
