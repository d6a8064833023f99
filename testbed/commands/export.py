"""Write all tables of CAMPAIGN_DIR as CSV or Parquet, with a dictionary of their columns."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.analysis.dictionary import page
from testbed.commands._complete import CampaignPath
from testbed.commands._options import MEASURER_PATH
from testbed.rundir import Campaign, load

_TARGET = click.Path(path_type=Path)


@click.command("export")
@click.argument("campaign_dir", type=CampaignPath(), metavar="CAMPAIGN_DIR", required=False)
@click.option("--csv", "csv", type=_TARGET, metavar="DIR", help="Write CSV files into this directory.")
@click.option("--parquet", "parquet", type=_TARGET, metavar="DIR", help="Write Parquet files into this directory.")
@click.option("--dictionary", is_flag=True, help="Print the dictionary as Markdown (docs/data.md).")
@MEASURER_PATH
def command(campaign_dir: Path | None, csv: Path | None, parquet: Path | None, *, dictionary: bool) -> None:
    """Write all tables of CAMPAIGN_DIR as CSV or Parquet, with a dictionary of their columns.

    docs/data.md explains each column. Nothing is judged: verdicts and events are those of the last `testbed report`, if
    there was one.
    """
    if dictionary:
        click.echo(page.page(), nl=False)
        return
    if campaign_dir is None or (csv is None and parquet is None):
        raise click.UsageError("expected CAMPAIGN_DIR with --csv DIR or --parquet DIR, or --dictionary")
    # `--dictionary` needs no pandas.
    from testbed.analysis import export  # noqa: PLC0415

    made = export.flat(load(Campaign(path=campaign_dir)))
    if made["checks"].empty:
        said = f"{campaign_dir}: nothing is judged yet, so `checks` is empty; `testbed report {campaign_dir}` judges"
        click.echo(said, err=True)
    for form, target in (("csv", csv), ("parquet", parquet)):
        if target is not None:
            for path in export.write(made, target, form):
                click.echo(path)
