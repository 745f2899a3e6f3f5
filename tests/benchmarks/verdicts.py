"""Verdicts of the usual checks beside ours: 20 wrong artifacts and 20 correct ones, judged by each.

    pip install --target peers polygraphy
    PYTHONPATH=peers python tests/benchmarks/verdicts.py [--markdown] [--json FILE] [--work DIR]

The wrong ones are ONNX files of ours with one fault planted in each (see `faults.py`), all of which change what the
model computes; their hashes are entered into the manifest, so that they reach the comparison. The correct ones are
untouched exports: other architectures, opsets, layouts, batch sizes, output types, runtimes.

Every check gets what its users have: the eight seeded inputs of the export, Keras's float32 outputs for them, and the
outputs of the artifact, run in the named runtime as one batch. Its settings are the same in every row:

    allclose 1e-3    numpy.allclose(artifact, keras, atol=1e-3), rtol numpy's default of 1e-5
    allclose 1e-5    numpy.allclose(artifact, keras, atol=1e-5), likewise
    rtol 1e-3        numpy.allclose(artifact, keras, rtol=1e-3, atol=1e-5), as PyTorch's tutorial on ONNX has it
    Polygraphy       Comparator.compare_accuracy with its defaults: no element beyond both atol 1e-5 and rtol 1e-5
    cnnexport        converter.verify of the directory: "fail" is caught, and anything but "pass" is a rejection

Each model has its usual number of classes and seeded, calibrated weights, under which samples differ; that helps every
check, since with Keras's initial weights most differences drown in the softmax. "trained" is a small network that has
learnt its task. "x noise" is the largest relative L2 of ours over Keras's own rounding ("-": not measured), "max |d|"
the largest difference from Keras in any output: of probabilities, except for logits, features and depth.

TensorFlow exports every model once, in one process; `--work DIR` keeps these exports and takes those that it holds.
Exit code 1 where our check missed a fault or rejected a correct artifact. Polygraphy is no dependency of cnnexport.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import faults
import numpy as np
from faults import Array, Change

Arrays = Mapping[str, Array]
Check = Callable[[Arrays, Arrays], bool]
"""(the artifact's outputs, Keras's) by name -> whether the artifact is accepted."""

ROOT = Path(__file__).resolve().parents[2]
TINY, SMALL, MEDIUM = (32, 32, 3), (64, 64, 3), (96, 96, 3)
TRAINING_IMAGES, TRAINING_SEED, EPOCHS = 1024, 1, 8
OURS = "cnnexport"
PACKAGES = ("numpy", "polygraphy", "keras", "tensorflow", "onnx", "onnxruntime-gpu", "onnxruntime", "openvino",
            "opencv-python-headless", "tract", "ai-edge-litert")  # fmt: skip
INSTALL = """polygraphy is not installed, and must not be a dependency. To get it without touching anything else:
  pip install --target peers polygraphy
  PYTHONPATH=peers python tests/benchmarks/verdicts.py"""


# What is judged


@dataclass(frozen=True)
class Base:
    """An export: a source's text, or the name of a function of this module that builds the model."""

    source: str = ""
    build: str = ""
    input_shape: tuple[int, ...] = SMALL
    formats: tuple[str, ...] = ("onnx",)
    source_options: Mapping[str, Any] = field(default_factory=dict)
    write_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One artifact to judge: a `change` to `base`'s ONNX file or another export's file in its place, or neither."""

    base: str
    text: str
    runtime: str = "onnxruntime"
    change: Change | None = None
    file_of: str = ""

    @property
    def faulty(self) -> bool:
        return self.change is not None or bool(self.file_of)


BASES: dict[str, Base] = {
    "resnet18": Base("resnet18"),
    "resnext50": Base("resnext50", formats=("onnx", "tflite")),
    "googlenet": Base("googlenet"),
    "MobileNetV2": Base("keras:MobileNetV2", input_shape=MEDIUM),
    "xception": Base("xception", input_shape=MEDIUM, formats=("onnx", "saved-model")),
    "unet": Base(build="unet_classes"),
    "DenseNet121": Base("keras:DenseNet121"),
    "resnet18-opset13": Base("resnet18", source_options={"seed": 1}, write_options={"opset": 13}),
    "resnext50-opset18": Base("resnext50", source_options={"seed": 2}, write_options={"opset": 18}),
    "MobileNetV2-nchw": Base("keras:MobileNetV2", input_shape=MEDIUM, write_options={"layout": "nchw"}),
    "googlenet-batch3": Base("googlenet", source_options={"seed": 3}, write_options={"batch": 3}),
    "resnet18-logits": Base("resnet18", source_options={"logits": True}),
    "EfficientNetB0-features": Base("keras:EfficientNetB0", source_options={"kwargs": {"include_top": False}}),
    "unet-depth": Base(build="unet_depth"),
    "trained": Base(build="trained", input_shape=TINY),
    "trained-epsilon": Base(build="trained_epsilon", input_shape=TINY),
}

FAULTS = (
    Case("MobileNetV2", "first kernel x 1.001", change=faults.scaled("Conv1/kernel")),
    Case("resnext50", "grouped kernel in the middle x 1.001", change=faults.scaled("stage3_block3_conv2/kernel")),
    Case("trained", "last kernel x 1.001", change=faults.scaled("conv3/kernel")),
    Case("resnext50", "one filter of 512 zeroed", change=faults.filter_zeroed("stage2_block1_conv3/kernel", 100)),
    Case("MobileNetV2", "input read as BGR", change=faults.inputs_reversed("Conv1/kernel")),
    Case("trained", "BN epsilon 1e-5 instead of 1e-3", file_of="trained-epsilon"),
    Case("googlenet", "5x5 padding shifted by a row", change=faults.padding_shifted("inception4a_5x5/Conv")),
    Case("googlenet", "outputs aux1 and aux2 exchanged", change=faults.outputs_exchanged("aux1", "aux2")),
    Case("resnet18", "one kernel transposed", change=faults.transposed("stage2_block2_conv1/kernel")),
    Case("resnet18", "BN shifts of two layers exchanged",
         change=faults.biases_exchanged("stage3_block1_conv2/Conv", "stage3_block2_conv2/Conv")),
    Case("googlenet", "one bias dropped", change=faults.bias_dropped("inception5a_3x3/Conv")),
    Case("resnext50", "2 of 32 groups exchanged", change=faults.groups_exchanged("stage4_block3_conv2/kernel", 32)),
    Case("MobileNetV2", "ReLU instead of ReLU6", change=faults.unbounded()),
    Case("googlenet", "one max pool averages", change=faults.averaged("inception3b_pool/MaxPool2d")),
    Case("resnet18", "stride 2 on the other pixels", change=faults.stride_phase("stage3_block1_conv1/Conv")),
    Case("xception", "one kernel rounded to float16", change=faults.in_float16("block5_sepconv2/pointwise_kernel")),
    Case("trained", "one kernel in 8 bits", change=faults.in_int8("conv2/kernel")),
    Case("xception", "one ReLU left out", change=faults.activation_left_out("block9_sepconv2_act/Relu")),
    Case("unet", "upsampling with aligned corners", change=faults.corners_aligned()),
    Case("googlenet", "average pool counts its padding", change=faults.padding_counted("aux1_pool/AvgPool")),
)  # fmt: skip

CORRECT = (
    Case("resnet18", "ONNX"),
    Case("resnext50", "ONNX"),
    Case("MobileNetV2", "ONNX"),
    Case("xception", "ONNX"),
    Case("DenseNet121", "ONNX"),
    Case("unet", "ONNX, a class for each pixel"),
    Case("resnet18", "ONNX, optimizer off", "onnxruntime-noopt"),
    Case("resnext50", "ONNX", "openvino"),
    Case("googlenet", "ONNX", "opencv"),
    Case("MobileNetV2", "ONNX", "tract"),
    Case("resnext50", "TFLite", "litert"),
    Case("xception", "SavedModel", "tensorflow"),
    Case("resnet18-opset13", "ONNX, opset 13, seed 1"),
    Case("resnext50-opset18", "ONNX, opset 18, seed 2"),
    Case("MobileNetV2-nchw", "ONNX, channels first"),
    Case("googlenet-batch3", "ONNX, batch of 3, seed 3"),
    Case("resnet18-logits", "ONNX, logits"),
    Case("EfficientNetB0-features", "ONNX, feature map"),
    Case("unet-depth", "ONNX, depth in millimetres"),
    Case("trained", "ONNX"),
)


# The child: everything that needs TensorFlow


@functools.cache
def trained() -> Any:
    """A small classifier that has learnt the order of an image's mean red, green and blue: six classes, and sure."""
    import keras
    import tensorflow as tf
    from keras import layers

    from converter.core.data import TensorSpec
    from converter.core.samples import generate

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    image = x = keras.Input(TINY, name="image")
    for number, filters in enumerate((16, 32, 64), start=1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"bn{number}")(x)
        x = layers.MaxPooling2D(name=f"pool{number}")(layers.ReLU(name=f"relu{number}")(x))
    x = layers.Dense(6, activation="softmax", name="order")(layers.GlobalAveragePooling2D(name="average")(x))
    model = keras.Model(image, x, name="trained")
    images = generate([TensorSpec("image", (None, *TINY))], TRAINING_IMAGES, TRAINING_SEED)["image"]
    means = images.mean(axis=(1, 2))
    orders = [tuple(order) for order in itertools.permutations(range(3))]
    labels = np.array([orders.index(tuple(order)) for order in means.argsort(axis=1).tolist()])
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=32, epochs=EPOCHS, verbose=0)
    return model


def trained_epsilon() -> Any:
    """The same network with the same weights, and PyTorch's epsilon in place of Keras's."""
    import keras

    model = keras.models.clone_model(trained())
    model.set_weights(trained().get_weights())
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 1e-5
    return model


def unet_classes() -> Any:
    from keras import layers

    return _unet(layers.Conv2D(5, 1, activation="softmax", name="classes"))


def unet_depth() -> Any:
    """A depth in millimetres for each pixel: 2500, give or take 1000."""
    from keras import layers

    return _unet(layers.Conv2D(1, 1, name="depth"), layers.Rescaling(1000.0, 2500.0, name="millimetres"))


def _unet(*head: Any) -> Any:
    """Two levels with bilinear upsampling, seeded and calibrated."""
    import keras
    from keras import layers

    from converter.sources.untrained import calibrated

    def block(x: Any, filters: int, name: str) -> Any:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
        return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))

    image = keras.Input(SMALL, name="image")
    level1 = block(image, 16, "down1")
    level2 = block(layers.MaxPooling2D(name="shrink1")(level1), 32, "down2")
    x = block(layers.MaxPooling2D(name="shrink2")(level2), 64, "bottom")
    for name, level, filters in (("up2", level2, 32), ("up1", level1, 16)):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=name)(x)
        x = block(layers.Concatenate(name=f"{name}_join")([x, level]), filters, f"{name}_conv")
    for layer in head:
        x = layer(x)
    model = keras.Model(image, x, name="unet")
    calibrated(model, "unet", 0, {}, None)
    return model


def export_all(work: Path) -> None:
    """Export every base that `work` does not hold; tells the seconds of each on standard output."""
    import keras

    import converter
    from converter.core.data import SourceOptions, WriteOptions

    for name, base in BASES.items():
        if exported(work, name).exists():
            continue
        started = time.perf_counter()
        options = converter.ExportOptions(
            base.formats,
            work / name,
            WriteOptions(**base.write_options),
            SourceOptions(input_shape=base.input_shape, **base.source_options),
        )
        report = converter.export(globals()[base.build]() if base.build else base.source, options)
        print(f"{name}: exported in {time.perf_counter() - started:.0f} s, {report.verdict}", flush=True)
        keras.backend.clear_session()


def exported(work: Path, name: str) -> Path:
    """Where the export of a base lies: also one that our own proof did not pass is judged here."""
    unproven = work / f"{name}.unproven"
    return unproven if unproven.exists() else work / name


# The checks


def close(**tolerances: float) -> Check:
    def check(actual: Arrays, reference: Arrays) -> bool:
        return all(np.allclose(actual[name], array, **tolerances) for name, array in reference.items())

    return check


def polygraphy(actual: Arrays, reference: Arrays) -> bool:
    from polygraphy.comparator import Comparator, IterationResult, RunResults
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    results = RunResults()
    for runner, arrays in (("artifact", actual), ("keras", reference)):
        results.append((runner, [IterationResult(dict(arrays), runner_name=runner)]))
    return bool(Comparator.compare_accuracy(results))


PEERS: dict[str, Check] = {
    "allclose 1e-3": close(atol=1e-3),
    "allclose 1e-5": close(atol=1e-5),
    "rtol 1e-3": close(rtol=1e-3, atol=1e-5),
    "Polygraphy": polygraphy,
}


@dataclass(frozen=True)
class Row:
    """What every check said to one artifact. `multiple` is the worst output's relative L2 over the noise."""

    model: str
    text: str
    runtime: str
    faulty: bool
    multiple: float | None
    largest: float
    accepted: Mapping[str, bool]
    verdict: str
    reasons: tuple[str, ...]

    def right(self, check: str) -> bool:
        """Whether `check` told the truth; a fault that leaves us undecided is not caught."""
        if check == OURS:
            return self.verdict == ("fail" if self.faulty else "pass")
        return self.accepted[check] is not self.faulty


def judged(case: Case, work: Path) -> Row:
    """Plant the fault in a copy, if there is one, run the artifact, and ask every check."""
    from converter import verify
    from converter.bundle import read_golden, read_manifest
    from converter.bundle.manifest import GOLDEN
    from converter.proof.isolate import run_artifact
    from converter.proof.protocol import Subject
    from converter.runtimes import RUNTIMES

    with tempfile.TemporaryDirectory(prefix="verdicts-") as scratch:
        directory = planted(case, work, Path(scratch)) if case.faulty else exported(work, case.base)
        manifest = read_manifest(directory)
        golden = read_golden(directory / GOLDEN, manifest.interface)
        (artifact,) = [each for each in manifest.artifacts if each.format == RUNTIMES[case.runtime].reads[0]]
        by_batch, _ = run_artifact(Subject(directory, artifact, manifest.interface, case.runtime, "cpu"))
        actual, reference = by_batch[max(by_batch)], golden.references
        report = verify(directory, runtimes=(case.runtime,))
    results = [each for row in report.rows for each in row.outputs]
    return Row(
        model=case.base,
        text=case.text,
        runtime=case.runtime,
        faulty=case.faulty,
        multiple=max((each.multiple for each in results if each.multiple is not None), default=None),
        largest=max(float(np.abs(actual[name].astype(np.float64) - reference[name]).max()) for name in reference),
        accepted={name: check(actual, reference) for name, check in PEERS.items()} | {OURS: report.verdict == "pass"},
        verdict=report.verdict,
        reasons=report.reasons,
    )


def planted(case: Case, work: Path, scratch: Path) -> Path:
    """A copy of the export in `scratch` with the fault in its ONNX file and the file's hash in its manifest."""
    import onnx

    directory = Path(shutil.copytree(exported(work, case.base), scratch / case.base))
    path = directory / "model.onnx"
    if case.file_of:
        shutil.copyfile(exported(work, case.file_of) / path.name, path)
    if case.change:
        model = onnx.load(str(path))
        case.change(model.graph)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
    content = path.read_bytes()
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"][path.name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


# The tables


def rows_of_table(rows: Sequence[Row], checks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    words = {(True, True): "caught", (True, False): "missed", (False, True): "accepted", (False, False): "rejected"}
    faulty = rows[0].faulty
    where = () if faulty else ("runtime",)
    yield ("", "model", "what is wrong" if faulty else "artifact", *where, "x noise", "max |d|", *checks)
    for number, row in enumerate(rows, start=1):
        multiple = "-" if row.multiple is None else f"{row.multiple:,.1f}"
        verdicts = [words[faulty, row.right(check)] for check in checks]
        place = () if faulty else (row.runtime,)
        yield (str(number), row.model, row.text, *place, multiple, f"{row.largest:.1e}", *verdicts)


def summary(rows: Sequence[Row], checks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    wrong, correct = [row for row in rows if row.faulty], [row for row in rows if not row.faulty]
    yield "check", "wrong artifacts caught", "correct artifacts rejected"
    for check in checks:
        caught = sum(row.right(check) for row in wrong)
        rejected = sum(not row.right(check) for row in correct)
        yield check, f"{caught} of {len(wrong)}", f"{rejected} of {len(correct)}"


def table(cells: Sequence[tuple[str, ...]], markdown: bool) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    between, edge = (" | ", ("| ", " |")) if markdown else ("  ", ("", ""))
    lines = [
        edge[0] + between.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + edge[1]
        for line in cells
    ]
    lines.insert(1, "|".join(["", *("-" * (width + 2) for width in widths), ""]) if markdown else "")
    return "\n".join(line.rstrip() for line in lines if line or not markdown)


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def run(work: Path) -> list[Row]:
    """Export what is missing, then judge every case; progress goes to standard error."""
    log = work / "export.log"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("w") as stream:
        command = [sys.executable, __file__, "--export", str(work)]
        done = subprocess.run(command, stdout=sys.stderr, stderr=stream, env=environment, check=False)
    if done.returncode:
        sys.exit(log.read_text()[-2000:])
    rows = []
    for case in (*FAULTS, *CORRECT):
        row = judged(case, work)
        print(f"{case.base}, {case.text}, {case.runtime}: {row.verdict}", file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every row, and the versions, to FILE")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the exports there, and take those it holds")
    parser.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.export:
        export_all(options.export)
        return 0
    if find_spec("polygraphy") is None:
        parser.exit(5, INSTALL + "\n")
    with tempfile.TemporaryDirectory(prefix="verdicts-") as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        rows = run(work)
    checks = (*PEERS, OURS)
    for part in ([row for row in rows if row.faulty], [row for row in rows if not row.faulty]):
        print(table(list(rows_of_table(part, checks)), options.markdown), end="\n\n")
    print(table(list(summary(rows, checks)), options.markdown), end="\n\n")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    if options.json:
        options.json.write_text(json.dumps({"versions": versions(), "rows": [asdict(row) for row in rows]}, indent=1))
    return 0 if all(row.right(OURS) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
