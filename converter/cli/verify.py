"""`cnnexport verify DIRECTORY|FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.cli.event_log import EventLog
from converter.cli.options import RUNTIME_LIST, limit_options, option, output_options
from converter.cli.streams import Progress, result_only


@click.command("verify")
@click.argument("directory", metavar="DIRECTORY|FILE", type=click.Path(path_type=Path))
@option("--runtime", "runtimes", type=RUNTIME_LIST, multiple=True, metavar="NAME",
        help="See cnnexport runtimes; or all. Repeatable or comma-separated. [default: one per format]")  # fmt: skip
@option("--key", type=click.Path(path_type=Path), metavar="FILE",
        help="Public key, PEM: refuse a directory that its owner did not sign as it is.")  # fmt: skip
@limit_options
@option("--server", metavar="URL",
        help="Replay it in a server too: http://HOST:PORT/v2/models/NAME; /v1/ for TensorFlow Serving.")  # fmt: skip
@output_options
def command(directory: Path, runtimes: tuple[str, ...], quiet: bool, **given: Any) -> int:
    """Repeat the proof of DIRECTORY, or of one artifact FILE in it."""
    from converter.proof.children import expected, waiting_children

    with result_only() as result, waiting_children(() if runtimes else expected(directory)):
        from converter.cli import delivery
        from converter.pipeline.verify import verify

        where = delivery.destinations(given)
        chosen = {name: value for name, value in given.items() if name not in delivery.REPORT_OPTIONS}
        with EventLog(given["log"]) as log:
            progress = log.progress(str(directory), Progress(quiet))
            report = verify(directory, progress=progress, runtimes=runtimes, **chosen)
            log.verdict(str(directory), report.verdict, report.exit_code)
        return delivery.deliver(report, where, result)
