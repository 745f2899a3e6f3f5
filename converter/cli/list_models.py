"""`cnnexport list`: lists the zoo."""

from __future__ import annotations

import json

import click

from converter.cli.options import option
from converter.cli.streams import columns


@click.command("list")
@option("--json", "as_json", is_flag=True, help="Print an array of objects.")
def command(as_json: bool) -> int:
    """List the zoo: name, input, classes, parameters, outputs."""
    from converter.sources import zoo_table

    rows = zoo_table()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return 0
    cells = [("name", "input", "classes", "parameters", "outputs")]
    for row in rows:
        shape = "x".join(str(size) for size in row["input_shape"])
        cells.append((row["name"], shape, str(row["classes"]), f"{row['parameters']:,}", ", ".join(row["outputs"])))
    click.echo(columns(cells, right=(2, 3)))
    return 0
