"""`cnnexport sign DIRECTORY --key KEY`."""

from __future__ import annotations

from pathlib import Path

import click

from converter.cli.options import option
from converter.cli.streams import result_only


@click.command("sign")
@click.argument("directory", type=click.Path(path_type=Path))
@option("--key", type=click.Path(path_type=Path), required=True, metavar="FILE",
        help="Elliptic-curve private key, PEM.")  # fmt: skip
@option("--password", metavar="TEXT", help="Password of the key; better given as CNNEXPORT_PASSWORD.")
@option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@option("--debug", is_flag=True, help="Show the traceback of errors.")
def command(directory: Path, key: Path, password: str | None, as_json: bool, debug: bool) -> int:
    """Sign the proven export in DIRECTORY, with a bill of materials and an attestation of the verdict."""
    with result_only() as result:
        from converter.core.jsonable import dumps
        from converter.core.text import clean, inert
        from converter.signing.sign import sign

        made = sign(directory, key, password=password)
        text = dumps(made) if as_json else f"signed {inert(clean(made.directory, 200))}: {', '.join(made.files)}\n"
        result.write(text)
        return 0
