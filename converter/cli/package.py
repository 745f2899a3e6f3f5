"""`cnnexport package DIRECTORY --for SERVER -o OUTPUT`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.cli.options import FORMAT_LIST, Integer, choice, option
from converter.cli.streams import result_only

SERVERS = ("triton", "tf-serving", "ovms", "kserve", "hub", "oci")


@click.command("package")
@click.argument("directory", type=click.Path(path_type=Path))
@option("--for", "server", type=choice(*SERVERS), required=True, help="The server or registry.")
@option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The directory to write; must be new.")
@option("--name", default="", metavar="NAME", help="Name of the model in the server. [default: that of the export]")
@option("--version", "version", type=Integer(min=1), default=1, show_default=True, help="Version directory.")
@option("--format", "-f", "form", type=FORMAT_LIST, metavar="FORMAT",
        help="The artifact to serve. [default: the first that the server takes]")  # fmt: skip
@option("--precision", default="float32", show_default=True, metavar="PRECISION", help="Precision of that artifact.")
@option("--max-batch", type=Integer(min=1), default=8, show_default=True, help="Largest batch for Triton.")
@option("--base-path", default="/models", show_default=True, metavar="PATH",
        help="Where the server will find the package; for kserve its storage URI.")  # fmt: skip
@option("--copy", is_flag=True, help="Copy the artifacts instead of linking them.")
@option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@option("--debug", is_flag=True, help="Show the traceback of errors.")
def command(directory: Path, server: str, output: Path, as_json: bool, debug: bool, **given: Any) -> int:
    """Lay the proven artifacts of DIRECTORY out for a server; nothing is converted again."""
    with result_only() as result:
        from converter.core.jsonable import dumps
        from converter.core.text import clean, inert
        from converter.serving.package import package

        made = package(directory, server, output, **given)
        if as_json:
            result.write(dumps(made))
            return 0
        lines = [f"{how:8}{clean(name, 200)}" for name, how in made.files.items()]
        result.write("\n".join(map(inert, [*lines, f"{made.server}: {clean(made.directory, 200)}"])) + "\n")
        return 0
