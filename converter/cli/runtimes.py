"""`cnnexport runtimes`: lists the runtimes for `verify --runtime`."""

from __future__ import annotations

import json

import click

from converter.cli.options import option
from converter.cli.streams import columns


@click.command("runtimes")
@option("--json", "as_json", is_flag=True, help="Print an array of objects.")
def command(as_json: bool) -> int:
    """List the runtimes: name, version, formats read, availability."""
    from converter.runtimes import overview

    rows = overview()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return 0
    cells = [("name", "version", "reads", "available")]
    cells += [(row["name"], row["version"] or "-", ", ".join(row["reads"]), row["reason"] or "yes") for row in rows]
    click.echo(columns(cells))
    return 0
