"""`cnnexport train MODEL --data DIRECTORY|mnist|digits`, and how its result is printed."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from converter.cli.options import SOURCES, Integer, choice, loading_options, option
from converter.cli.streams import Progress, result_only
from converter.core.ending import ended_gently, status_of

if TYPE_CHECKING:
    from converter.pipeline.train import TrainResult


@click.command("train")
@click.argument("model", type=SOURCES)
@option("--data", required=True, metavar="DIRECTORY|mnist|digits",
        help="A folder with a folder of images for each class, or a small built-in set.")  # fmt: skip
@option("--output", "-o", type=click.Path(path_type=Path), help="Directory of the result. [default: trained/MODEL]")
@option("--epochs", type=Integer(min=1), default=10, show_default=True, help="Most passes over the training images.")
@option("--batch", type=Integer(min=1), default=32, show_default=True, help="Images in a step.")
@option("--optimizer", type=choice("adam", "sgd"), default="adam", show_default=True, help="SGD has momentum 0.9.")
@option("--rate", type=float, help="Learning rate at the beginning. [default: 0.001 for adam, 0.05 for sgd]")
@option("--schedule", type=choice("cosine", "constant", "step"), default="cosine", show_default=True,
        help="How the rate falls: to nothing, not at all, or to a tenth twice.")  # fmt: skip
@option("--patience", type=Integer(min=0), default=5, show_default=True,
        help="Stop after so many epochs without a lower validation loss; 0 never.")  # fmt: skip
@option("--validation", type=float, default=0.1, show_default=True, help="Share of the images for validation.")
@option("--test", type=float, default=0.1, show_default=True, help="Share of the images for the test at the end.")
@option("--width", type=float, default=1.0, show_default=True, help="Factor for the channels of every layer.")
@option("--depth", type=float, default=1.0, show_default=True, help="Factor for the number of equal blocks.")
@option("--resize", type=choice("pad", "stretch", "crop"), default="pad", show_default=True,
        help="How images get the size of the input.")  # fmt: skip
@option("--preprocessing", metavar="MODE|FILE.json",
        help="caffe, tf, torch, plain, unit, or a file. [default: the model's own]")  # fmt: skip
@option("--resume", is_flag=True, help="Go on after the last whole epoch of a stopped training.")
@option("--force", is_flag=True, help="Begin again where the directory holds a training.")
@option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@option("--debug", is_flag=True, help="Show the traceback of errors.")
@loading_options
def command(model: str, data: str, quiet: bool, as_json: bool, debug: bool, **given: Any) -> int:
    """Train MODEL on labelled images with Keras and save it with its preprocessing and labels."""
    with result_only() as result:
        from converter.pipeline.train import train

        try:
            with ended_gently():
                found = train(model, data, progress=Progress(quiet), **given)
        except KeyboardInterrupt as error:
            click.echo("\ncnnexport: interrupted; go on after the last whole epoch with --resume", err=True)
            return status_of(error)
        print_result(found, result, as_json)
        return 0


def print_result(found: TrainResult, file: IO[str], as_json: bool) -> None:
    """Write what was trained to `file`: one JSON document, or some lines."""
    from converter.core.jsonable import dumps
    from converter.core.text import clean, inert

    if as_json:
        file.write(dumps(found))
        return
    best = found.epochs[found.best]
    images = ", ".join(f"{count:,} {name}" for name, count in found.images.items())
    lines = [
        *(f"note: {clean(each, 300)}" for each in found.notes),
        f"{clean(found.model, 80)}: {found.parameters:,} parameters, {len(found.classes)} classes",
        f"  images     {images}",
        f"  epochs     {len(found.epochs)} in {found.seconds:.0f} s, {found.stopped}; the best is {best['epoch']}",
        f"  validation loss {best['validation_loss']:.4f}, accuracy {best['validation_accuracy']:.4f}",
        f"  test       loss {found.test_loss:.4f}, accuracy {found.test_accuracy:.4f}",
        f"saved: {clean(found.path, 300)}",
        f"export it: cnnexport {clean(found.path, 300)}",
    ]
    file.write("\n".join(map(inert, lines)) + "\n")
