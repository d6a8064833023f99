"""Compare the overheads in the cells that several CAMPAIGNS share, or two sides of one campaign."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from testbed.analysis import across, agreement, hosts
from testbed.analysis.tables.ladder import Question
from testbed.commands._complete import CampaignPath
from testbed.errors import IncompatibleRuns, SpecError
from testbed.rundir import Campaign, LoadedCampaign, load


@click.command("compare")
@click.argument("campaigns", nargs=-1, required=True, type=CampaignPath())
@click.option(
    "--across",
    "axis",
    type=click.Choice(across.AXES),
    help="Within one campaign: the ratio of each other kernel (or runtime, ...) over the first.",
)
@click.option(
    "--figure",
    "figure_dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also draw what is compared of two campaigns, as DIR/against (with --counts: DIR/hosts), .pdf and .png.",
)
@click.option(
    "--counts",
    is_flag=True,
    help="Of two campaigns: the count of each arm, and what is equal, as two hosts must agree.",
)
@click.pass_context
def command(
    context: click.Context, campaigns: tuple[Path, ...], axis: str | None, figure_dir: Path | None, *, counts: bool
) -> None:
    """Compare the overheads in the cells that several CAMPAIGNS share, or two sides of one campaign.

    CAMPAIGNS are directories. A cell is shared if kernel, runtime, workload and measurer have the same names. Other
    differences (measurer, kernel, images, command line, commit) are listed beside each ratio.

    `--counts` compares guest instructions instead of overheads: campaigns of two hosts with the same guest execute
    equally many. Arms with different measurers are shown and not compared.

    Exit status: 1 if a shared overhead (or count) differs by more than 0.1 % (servers: 0.5 %) or an A/A interval is
    wider than that; 2 if no cell is shared; 4 if the campaigns differ in tier or in the version of QEMU.
    """
    loaded = [load(Campaign(path=path)) for path in campaigns]
    if counts:
        if axis is not None:
            raise SpecError("--counts: cannot be used with --across", "--across compares within one campaign")
        context.exit(_counts(loaded, figure_dir))
    if figure_dir is not None and (axis is not None or len(loaded) != 2):
        raise SpecError(
            f"--figure: expected two campaigns and no --across, got {len(loaded)}", "leave --figure out, or name two"
        )
    if figure_dir is not None:
        _draw(loaded, figure_dir)
    if axis is None:
        comparison = agreement.compare(loaded)
        click.echo("\n".join(agreement.text(comparison)))
        context.exit(0 if comparison.ok else 1)
    if len(loaded) > 1:
        raise SpecError(f"--across: expected one campaign, got {len(loaded)}", "leave --across out to compare several")
    question = Question.of(loaded[0].plan.tier, loaded[0].facts)
    click.echo("\n".join(across.text(across.across(loaded[0], axis), axis, question)))


def _draw(loaded: Sequence[LoadedCampaign], directory: Path) -> None:
    """Draw two campaigns; those that must not be pooled too, if they are of one tier: their ratios are compared."""
    # Matplotlib is slow to import, and most comparisons draw nothing.
    from testbed.analysis import figures  # noqa: PLC0415
    from testbed.analysis.figures.against import against  # noqa: PLC0415

    try:
        figure = against(agreement.compare(loaded))
    except IncompatibleRuns as error:
        if len({one.plan.tier for one in loaded}) > 1:
            raise
        figure = against(agreement.compare(loaded, found=()), note=str(error).partition(": ")[2].partition(":")[0])
    for path in figures.write(figure, directory, "against"):
        click.echo(path)


def _counts(loaded: list[LoadedCampaign], directory: Path | None) -> int:
    comparison = hosts.compare(loaded)
    click.echo("\n".join(hosts.text(comparison)))
    if directory is not None:
        from testbed.analysis.figures import write  # noqa: PLC0415 - drawn only if it is asked for
        from testbed.analysis.figures.hosts import host_counts  # noqa: PLC0415

        for path in write(host_counts(comparison), directory, "hosts"):
            click.echo(path, err=True)
    return 0 if comparison.ok else 1
