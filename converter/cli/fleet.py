"""`cnnexport fleet FILE.toml|MODEL…`, and `cnnexport fleet --verify DIRECTORY…`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from converter.cli.event_log import EventLog
from converter.cli.options import RUNTIME_LIST, Integer, choice, option
from converter.cli.streams import columns, result_only
from converter.core.foreign import JsonObject
from converter.core.text import clean, inert

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from converter.fleets.tasks import FleetReport

NAME, SENTENCE = 40, 200
TLS = ("ca", "cert", "key")


@click.command("fleet")
@click.argument("models", metavar="FILE.toml|MODEL...", nargs=-1, required=True)
@option("--verify", is_flag=True, help="Verify these artifact directories instead of exporting.")
@option("--runtime", "runtimes", type=RUNTIME_LIST, multiple=True, metavar="NAME", help="Runtimes for --verify.")
@option("--output", "-o", type=click.Path(path_type=Path),
        help="Target directory. [default: that of the TOML file, or artifacts]")  # fmt: skip
@option("--jobs", "-j", type=Integer(min=1), default=2, show_default=True, help="Models at a time on this machine.")
@option("--scheduler", metavar="ADDRESS", help="A Dask scheduler, tcp://HOST:PORT or tls://HOST:PORT.")
@option("--tls-ca", type=click.Path(path_type=Path), metavar="FILE", help="Certificate authority of a tls:// cluster.")
@option("--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="Certificate for a tls:// cluster.")
@option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="Key of that certificate.")
@option("--force", is_flag=True, help="Also run what an earlier run proved.")
@option("--retries", type=Integer(min=0), default=1, show_default=True, help="New attempts after exit code 8.")
@option("--timeout", type=float, default=3600.0, show_default=True, metavar="SECONDS", help="Limit of one model.")
@option("--memory", type=Integer(min=1), metavar="MB", help="Limit of one model. [default: that of its worker]")
@option("--transfer", type=choice("auto", "shared", "stream"), default="auto", show_default=True,
        help="How results reach the target: workers write them, or send them.")  # fmt: skip
@option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Append one line of JSON for each event.")
@option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
@option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@option("--debug", is_flag=True, help="Show the traceback of errors.")
def command(models: tuple[str, ...], as_json: bool, quiet: bool, debug: bool, **given: Any) -> int:
    """Export and prove many models, or verify many directories, on the cores of this machine or a Dask cluster.

    What an earlier run proved is not run again. The exit code is 1 if a model failed.
    """
    with result_only() as result:
        from converter.fleets.fleet import fleet

        files = {name: given.pop(f"tls_{name}") for name in TLS}
        given["tls"] = {name: path for name, path in files.items() if path is not None}
        given["memory"] = None if given["memory"] is None else given["memory"] << 20
        with EventLog(given.pop("log")) as log, Watch(quiet) as watch:

            def events(event: JsonObject) -> None:
                log.write(event)
                watch(event)

            report = fleet(models, events=events, **given)
        if as_json:
            from converter.core.jsonable import dumps
            from converter.fleets.pages import to_json

            result.write(dumps(to_json(report)))
        else:
            print_report(report, result)
        return report.exit_code


def print_report(report: FleetReport, file: IO[str]) -> None:
    """Write the rows, the failures and the counts to `file`."""
    from converter.report.summary import total_size, worst_error

    cells = [("model", "status", "exit", "error", "size", "time", "changed")]
    for row in report.rows:
        facts = {"comparisons": row.comparisons, "artifacts": row.artifacts}
        worst = worst_error(facts)
        error, size = "" if worst is None else f"{worst:.1e}", f"{total_size(facts) / 1e6:.1f} MB"
        times = f"{row.seconds:.1f} s"
        cells.append(
            (clean(row.name, NAME), row.status, str(row.exit_code), error, size, times, clean(row.change, NAME))
        )
    lines = columns(cells, right=(2, 3, 4, 5)).splitlines()
    lines += [f"{clean(row.name, NAME)}: {clean(row.message, SENTENCE)}" for row in report.failed]
    lines += [f"warning: {clean(text, SENTENCE)}" for text in report.warnings]
    lines += [f"{report.summary}: {clean(report.output, SENTENCE)}/fleet.html"]
    file.write("\n".join(map(inert, lines)) + "\n")


class Watch:
    """Shows the events of a fleet on standard error: a table updated in place on a terminal, otherwise lines."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live: Live | None = None
        self.states: dict[str, tuple[str, float]] = {}
        self.total = 0

    def __enter__(self) -> Watch:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), get_renderable=self._table, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, event: JsonObject) -> None:
        """Show `event`."""
        kind, model = event["event"], str(event.get("model", ""))
        if kind == "fleet-started":
            self.total = event["models"]
        if kind in ("model-submitted", "model-ended"):
            self.states[model] = str(event.get("status", "submitted")), float(event.get("seconds", 0.0))
        if self.live is None and not self.quiet and (text := self._line(event)):
            sys.stderr.write(inert(text) + "\n")
            sys.stderr.flush()

    def _line(self, event: JsonObject) -> str:
        kind = event["event"]
        if kind == "cluster" and event["dashboard"]:
            return f"dashboard: {clean(event['dashboard'], SENTENCE)}"
        if kind == "model-retried":
            return f"{clean(event['model'], NAME)}: tried again: {clean(event['reason'], SENTENCE)}"
        if kind != "model-ended":
            return ""
        count = sum(state != "submitted" for state, _ in self.states.values())
        reason = f": {clean(event['message'], SENTENCE)}" if event["message"] else ""
        head = f"{event['seconds']:7.1f} s  {count}/{self.total}"
        return f"{head}  {clean(event['model'], NAME)}  {event['status']}{reason}"

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table("model", "status", "seconds")
        colours = {"proven": "green", "unchanged": "green", "failed": "bold red"}
        for name, (status, seconds) in list(self.states.items())[-30:]:
            table.add_row(Text(clean(name, NAME)), Text(status, colours.get(status, "")), f"{seconds:.1f}")
        done = sum(status != "submitted" for status, _ in self.states.values())
        table.caption = f"{done} of {self.total}"
        return table
