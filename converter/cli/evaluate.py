"""`cnnexport evaluate DIRECTORY --data DIRECTORY`, and how its result is printed."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from converter.cli.options import RUNTIME_LIST, Integer, PixelSize, choice, option
from converter.cli.streams import Progress, columns, result_only

if TYPE_CHECKING:
    from converter.prediction.evaluation import Evaluation

SHOWN = 10


@click.command("evaluate")
@click.argument("directory", metavar="DIRECTORY|FILE", type=click.Path(path_type=Path))
@option("--data", required=True, metavar="DIRECTORY|mnist|digits",
        help="A folder with a folder of images for each class, or a small built-in set.")  # fmt: skip
@option("--keras", metavar="MODEL", help="The Keras model that was exported, to compare with. [default: an artifact]")
@option("--runtime", "runtimes", type=RUNTIME_LIST, multiple=True, metavar="NAME",
        help="See cnnexport runtimes. Repeatable or comma-separated. [default: one per format]")  # fmt: skip
@option("--subset", type=choice("train", "validation", "test", "all"),
        help="Part of the images. [default: test if the model was trained on them, else all]")  # fmt: skip
@option("--limit", type=Integer(min=1), metavar="N", help="At most N images, drawn at random.")
@option("--max-drop", type=float, default=1.0, show_default=True, help="Points of accuracy that may be lost.")
@option("--confidence", type=float, default=95.0, show_default=True, help="Of each limit of the drop, in percent.")
@option("--preprocessing", metavar="MODE|FILE.json", help="Instead of the export's own.")
@option("--labels", metavar="FILE|imagenet", help="Names of the classes instead of the export's own.")
@option("--size", type=PixelSize(), metavar="HxW", help="Size for a model of any size.")
@option("--device", type=choice("cpu", "cuda"), default="cpu", show_default=True, help="Where onnxruntime runs.")
@option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@option("--debug", is_flag=True, help="Show the traceback of errors.")
def command(directory: Path, data: str, as_json: bool, quiet: bool, debug: bool, **given: Any) -> int:
    """Compare the accuracy of all artifacts of an export and of Keras on labelled images."""
    with result_only() as result:
        from converter.pipeline.evaluate import evaluate

        found = evaluate(directory, data, progress=Progress(quiet), **given)
        print_result(found, result, as_json)
        return found.exit_code


def print_result(found: Evaluation, file: IO[str], as_json: bool) -> None:
    """Write the evaluation to `file`: one JSON document, or a table."""
    from converter.core.jsonable import dumps
    from converter.core.text import clean, inert
    from converter.report.evaluation import line, title

    if as_json:
        file.write(dumps({**vars(found), "exit_code": found.exit_code}))
        return
    lines = [
        f"{found.images:,} images of {clean(found.data, 80)} ({found.subset}); reference: {clean(found.reference, 80)}"
    ]
    cells = [
        ("classifier, output", "precision", "top-1", "top-5", "agreement", "flipped", "difference", "one image", "size")
    ]
    cells += [
        (one["title"], one["precision"], one["top1"], one["top5"], one["agreement"], one["flipped"], one["difference"],
         one["time"], one["size"])
        for one in map(line, found.rows)
    ]  # fmt: skip
    lines += columns(cells, right=range(2, 9)).splitlines()
    for each in found.rows:
        if each.paired is not None:
            one = line(each)
            lines.append(f"{one['title']}: drop {one['drop']} points, {one['answer']}")
    for each in found.rows:
        for flip in each.flips[:SHOWN]:
            lines.append(
                f"flipped in {title(each)}: {clean(flip.image, 80)}, {clean(flip.reference, 40)} "
                f"(margin {flip.reference_margin:.1e}) -> {clean(flip.artifact, 40)} ({flip.artifact_margin:.1e})"
            )
    if found.loading is not None:
        controls = ", ".join(f"{each.name} {each.outcome}" for each in found.loading.controls)
        lines.append(
            f"preprocessing: {found.loading.verdict}; {found.loading.images} images as Keras loads them, "
            f"inputs differ by {found.loading.pixels:.1e}, probabilities in float32 by {found.loading.largest:.1e}"
        )
        lines.append(f"controls: {controls}")
    lines += [f"note: {clean(text, 200)}" for text in found.notes]
    lines += [clean(text, 200) for text in found.reasons]
    lines.append(f"{found.verdict}: at most {100 * found.max_drop:g} points may be lost")
    file.write("\n".join(map(inert, lines)) + "\n")
