"""`cnnexport verify DIRECTORY|FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.cli.options import RUNTIME_LIST, option, output_options
from converter.cli.streams import Progress, result_only


@click.command("verify")
@click.argument("directory", metavar="DIRECTORY|FILE", type=click.Path(path_type=Path))
@option("--runtime", "runtimes", type=RUNTIME_LIST, multiple=True, metavar="NAME",
        help="Of cnnexport runtimes, or all; repeatable, or with commas. [default: one a format]")  # fmt: skip
@output_options
def command(directory: Path, runtimes: tuple[str, ...], quiet: bool, **given: Any) -> int:
    """Prove the artifacts of DIRECTORY again, or FILE, one of them, from what lies beside it."""
    with result_only() as result:
        from converter.cli import delivery
        from converter.pipeline.verify import verify

        wishes = delivery.wishes(given)
        chosen = {name: value for name, value in given.items() if name not in delivery.OWN}
        report = verify(directory, progress=Progress(quiet), runtimes=runtimes, **chosen)
        return delivery.deliver(report, wishes, result)
