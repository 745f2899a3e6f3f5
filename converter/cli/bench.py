"""`cnnexport bench DIRECTORY|FILE…`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.cli.options import RUNTIME_LIST, Integer, choice, limit_options, option
from converter.cli.streams import Progress, columns, result_only


@click.command("bench")
@click.argument("paths", metavar="DIRECTORY|FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@option("--against", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
        help="An .onnx or .tflite file of another exporter, or an export, to compare with; repeatable.")  # fmt: skip
@option("--runtime", "runtimes", type=RUNTIME_LIST, multiple=True, metavar="NAME",
        help="See cnnexport runtimes. Repeatable or comma-separated. [default: those installed]")  # fmt: skip
@option("--keras", metavar="MODEL", default="", help="Measure MODEL, a file or a name, in Keras as well.")
@option("--device", type=choice("cpu", "cuda"), default="cpu", show_default=True,
        help="cuda also measures onnxruntime on a GPU.")  # fmt: skip
@option("--batch", "batches", type=Integer(min=1), multiple=True, default=(1, 4, 16), metavar="N",
        help="Batch sizes, of files that take any; repeatable. [default: 1, 4, 16]")  # fmt: skip
@option("--seconds", type=float, default=2.0, show_default=True, help="Seconds of inference for each file and runtime.")
@option("--threads", type=Integer(min=1), help="Processors that each process may use. [default: all]")
@option("--seed", type=Integer(min=0), default=0, show_default=True, help="Seed of inputs, order and intervals.")
@limit_options
@option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
@option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@option("--debug", is_flag=True, help="Show the traceback of errors.")
def command(paths: tuple[Path, ...], as_json: bool, quiet: bool, **given: Any) -> int:
    """Measure load, latency, throughput, memory and size of every file in every runtime."""
    with result_only() as result:
        from converter.bench.measure import BenchOptions
        from converter.bench.report import lines, sentences
        from converter.core.jsonable import dumps
        from converter.core.limits import limits_of
        from converter.core.text import inert
        from converter.pipeline.bench import BenchRequest, bench
        from converter.pipeline.checks import names_in

        runtimes = names_in(given["runtimes"], "runtimes")
        limits = limits_of(given["memory_limit"], given["timeout"])
        request = BenchRequest(
            paths, given["against"], runtimes, given["keras"], given["device"], given["threads"], limits
        )
        options = BenchOptions(batches=given["batches"], seconds=given["seconds"], seed=given["seed"])
        report = bench(request, options, Progress(quiet))
        if as_json:
            result.write(dumps(report))
        else:
            text = columns(list(lines(report)), right=range(3, 32))
            result.write("\n".join(inert(line) for line in (*text.splitlines(), "", *sentences(report))) + "\n")
        result.flush()
        return report.exit_code
