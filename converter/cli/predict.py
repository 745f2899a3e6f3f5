"""`cnnexport predict ARTIFACT IMAGE…`, and how its result is printed."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from converter.cli.options import RUNTIME_LIST, Integer, PixelSize, choice, option
from converter.cli.streams import Progress, columns, result_only

if TYPE_CHECKING:
    from converter.pipeline.predict import PredictResult


@click.command("predict")
@click.argument("artifact", metavar="ARTIFACT|DIRECTORY", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@option("--runtime", type=RUNTIME_LIST, metavar="NAME", help="See cnnexport runtimes. [default: the first that can]")
@option("--device", type=choice("cpu", "cuda"), default="cpu", show_default=True, help="Where onnxruntime runs.")
@option("--top", type=Integer(min=1), default=5, show_default=True, help="Number of classes to show.")
@option("--output", metavar="NAME", help="Output with the classes, by name. [default: the first]")
@option("--preprocessing", metavar="MODE|FILE.json", help="Instead of the artifact's own.")
@option("--labels", metavar="FILE|imagenet", help="Names of the classes instead of the artifact's own.")
@option("--size", type=PixelSize(), metavar="HxW", help="Size for a model of any size. [default: the image's]")
@option("--heatmap", type=click.Path(path_type=Path), metavar="DIRECTORY",
        help="Write pictures of what the first class depends on, by occlusion.")  # fmt: skip
@option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@option("--debug", is_flag=True, help="Show the traceback of errors.")
def command(artifact: Path, images: tuple[str, ...], as_json: bool, quiet: bool, debug: bool, **given: Any) -> int:
    """Show the classes of each IMAGE (files, folders, patterns) by an artifact in a runtime."""
    with result_only() as result:
        from converter.core.errors import InputError
        from converter.pipeline.predict import predict

        found = predict(artifact, images, progress=Progress(quiet), **given)
        print_result(found, result, as_json)
        return InputError.exit_code if found.failed else 0


def print_result(found: PredictResult, file: IO[str], as_json: bool) -> None:
    """Write the predictions to `file`: one JSON document, or a table."""
    from converter.core.jsonable import dumps
    from converter.core.text import clean, inert

    if as_json:
        file.write(dumps(found))
        return
    rows = [("image", "probability", "class")]
    for each in found.predictions:
        name = clean(each.image, 60)
        rows += [
            (name if not place else "", f"{one.probability:.4f}", clean(one.label, 60))
            for place, one in enumerate(each.top)
        ]
        if each.error:
            rows.append((name, "-", clean(each.error.splitlines()[0], 200)))
        rows += [("", "", f"({clean(text, 100)})") for text in each.notes]
    lines = columns(rows, right=(1,)).splitlines()
    count = len(found.predictions)
    lines.append(
        f"{count} image{'' if count == 1 else 's'}, {clean(found.artifact, 200)} in {found.runtime}, "
        f"{found.seconds:.2f} s"
    )
    if found.heatmaps:
        lines.append(f"heat maps by {found.heatmaps}: {clean(str(Path(found.predictions[0].heatmap).parent), 200)}")
    if found.failed:
        lines.append(f"{found.failed} of {count} images could not be read")
    file.write("\n".join(map(inert, lines)) + "\n")
