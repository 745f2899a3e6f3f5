"""Every kind of file that the program reads: a valid sample, how it is changed, and the function that reads it.

A target runs in a process of its own (`run.attempt`), as a changed file may crash a runtime. Where the program itself
reads the file in a child, a crash of that child is what it reports as exit code 8.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from messages import changed_message
from mutations import changed_archive, changed_bytes, changed_json, hostile

import converter
from converter.bundle.golden import read_golden
from converter.bundle.layers import read_layers
from converter.bundle.manifest import check_hashes, read_manifest

Change = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """`sample` is a file in the directory that `run.prepare` makes; `read` gets the directory and the changed file.

    `isolated`: the program itself reads such a file in a child. `whole`: the changed file is read among the others of
    its export.
    """

    sample: str
    change: Change
    read: Callable[[Path, Path], object]
    isolated: bool = False
    whole: bool = False


def read_model_file(directory: Path, path: Path) -> None:
    from converter.sources.inspection.inspect import inspect_file
    from converter.sources.inspection.protocol import Request

    place = path.parent / "unpacked"
    place.mkdir(exist_ok=True)
    inspect_file(Request(path, place, (), trust=False), path.name)


def read_manifest_file(directory: Path, path: Path) -> None:
    manifest = read_manifest(path.parent)
    check_hashes(path.parent, manifest)


def read_golden_file(directory: Path, path: Path) -> None:
    read_golden(path, read_manifest(directory).interface)


def read_layers_file(directory: Path, path: Path) -> None:
    read_layers(path.parent)


def run_artifact(directory: Path, path: Path) -> None:
    """Inspect the file, and run it with the golden inputs as the child of a proof does."""
    from converter.core.jsonable import plain
    from converter.proof.child import run
    from converter.proof.protocol import RunJob, Subject

    manifest = read_manifest(directory)
    (artifact,) = (each for each in manifest.artifacts if each.path == path.name)
    converter.inspect(path)
    runtime = {"onnx": "onnxruntime", "tflite": "litert"}[artifact.format]
    subject = Subject(path.parent, artifact, manifest.interface, runtime, "cpu", directory / "golden.npz")
    run(plain(RunJob(subject, path.parent / "outputs.npz", (1,))))


def run_saved_model(directory: Path, path: Path) -> None:
    """Inspect the SavedModel that `path` is a file of, and run it as the child of a proof does."""
    from converter.core.jsonable import plain
    from converter.proof.child import run
    from converter.proof.protocol import RunJob, Subject

    manifest = read_manifest(directory)
    (artifact,) = (each for each in manifest.artifacts if each.format == "saved-model")
    place = path.parent.parent
    converter.inspect(place / artifact.path)
    subject = Subject(place, artifact, manifest.interface, "tensorflow", "cpu", directory / "golden.npz")
    run(plain(RunJob(subject, place / "outputs.npz", (1,))))


def read_image(directory: Path, path: Path) -> None:
    from converter.data.reading import read_picture

    read_picture(path, "rgb")


def read_labels_file(directory: Path, path: Path) -> None:
    from converter.data.labels import read_labels

    read_labels(str(path))


def read_preprocessing(directory: Path, path: Path) -> None:
    from converter.data.preprocessing import given

    given(str(path), {})


def read_samples(directory: Path, path: Path) -> None:
    from converter.pipeline.inputs import from_file
    from converter.quantize.calibration import read_calibration

    interface = read_manifest(directory).interface
    from_file(path, interface.inputs)
    read_calibration(path, interface)


def read_samples_array(directory: Path, path: Path) -> None:
    from converter.quantize.calibration import read_calibration

    read_calibration(path.parent, read_manifest(directory).interface)


def read_fleet(directory: Path, path: Path) -> None:
    from converter.fleets.listing import read_list

    read_list([str(path)])


def read_baseline_file(directory: Path, path: Path) -> None:
    from converter.report.baseline import read_baseline

    read_baseline(path)


def read_signature(directory: Path, path: Path) -> None:
    from converter.signing.check import check_signature

    check_signature(path.parent, directory / "key.pub")


def read_arguments(directory: Path, path: Path) -> None:
    """The keywords of the Python API, as a JSON object in the file."""
    from converter.pipeline.arguments import export_options, verify_options
    from converter.pipeline.options import ExportKeywords, VerifyKeywords

    given = json.loads(path.read_bytes())
    if isinstance(given, dict):
        for check, keywords in ((verify_options, VerifyKeywords), (partial(export_options, None), ExportKeywords)):
            own = {name: value for name, value in given.items() if name in keywords.__annotations__}
            check(own)


def changed_arguments(content: bytes, rng: random.Random) -> bytes:
    given: dict[str, Any] = json.loads(content)
    for name in rng.sample(sorted(given), rng.choice((1, 2))):
        given[name] = hostile(rng)
    return json.dumps(given).encode("utf-8", "surrogatepass")


def changed_text(content: bytes, rng: random.Random) -> bytes:
    """A TOML file with one value replaced by a hostile one, or with other bytes."""
    lines = content.decode().splitlines()
    places = [number for number, line in enumerate(lines) if " = " in line]
    if rng.random() < 0.4:
        return changed_bytes(content, rng)
    number = rng.choice(places)
    key = lines[number].partition(" = ")[0]
    value = json.dumps(hostile(rng)).replace("null", '""').replace("NaN", "nan").replace("Infinity", "inf")
    lines[number] = f"{key} = {value}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def onnx_message() -> Any:
    import onnx

    return onnx.ModelProto()


def saved_message() -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel()


TARGETS: dict[str, Target] = {
    ".keras": Target("model.keras", changed_archive, read_model_file, isolated=True),
    ".h5": Target("model.h5", changed_bytes, read_model_file, isolated=True),
    ".weights.h5": Target("model.weights.h5", changed_bytes, read_model_file, isolated=True),
    "manifest": Target("manifest.json", changed_json, read_manifest_file, whole=True),
    "golden": Target("golden.npz", changed_archive, read_golden_file),
    "layers": Target("layers.json", changed_json, read_layers_file),
    ".onnx": Target("model.onnx", changed_message(onnx_message), run_artifact, isolated=True),
    ".tflite": Target("model.tflite", changed_bytes, run_artifact, isolated=True),
    "saved-model": Target(
        "saved_model/saved_model.pb", changed_message(saved_message), run_saved_model, isolated=True, whole=True
    ),
    "image": Target("image.png", changed_bytes, read_image),
    "photograph": Target("image.jpg", changed_bytes, read_image),
    "labels": Target("labels.txt", changed_bytes, read_labels_file),
    "preprocessing": Target("preprocessing.json", changed_json, read_preprocessing),
    "samples": Target("samples.npz", changed_archive, read_samples),
    "array": Target("calibration/samples.npy", changed_bytes, read_samples_array),
    "fleet": Target("fleet.toml", changed_text, read_fleet),
    "baseline": Target("report.json", changed_json, read_baseline_file),
    "signature": Target("model.sig", changed_json, read_signature, whole=True),
    "arguments": Target("arguments.json", changed_arguments, read_arguments),
}

ARGUMENTS = {
    "runtimes": "onnxruntime", "device": "cpu", "tolerance": 1e-5, "formats": "onnx", "samples": 4,
    "seed": 0, "batch": 1, "opset": 17, "layout": "nhwc", "range": [0, 1], "input_shape": [32, 32, 3], "budget": 5.0,
    "preprocessing": "tf", "precision": ["fp16", "int8-weights"], "custom_objects": ["x"], "dynamic_size": {"H": 32},
    "server": "http://127.0.0.1:1/v2/models/x",
}  # fmt: skip

FLEET = """output = "artifacts"

[defaults]
format = ["onnx", "tflite"]
samples = 4

[matrix]
layout = ["nhwc", "nchw"]

[[model]]
source = "resnet18"
name = "one"

[[model]]
source = "my_nets.py:build"
kwargs = { classes = 5 }
samples = 8
"""


def write_small_files(directory: Path) -> None:
    """The samples that need no export: images, labels, preprocessing, samples, a fleet, arguments."""
    from PIL import Image

    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (24, 31, 3), np.uint8))
    picture.save(directory / "image.png")
    picture.save(directory / "image.jpg")
    (directory / "labels.txt").write_text("cat\ndog\nbird\nfish\ncow\n")
    stated = {"mode": "custom", "channels": "rgb", "scale": [1 / 255] * 3, "mean": [0.0] * 3, "range": [0.0, 1.0],
              "resize": {"how": "stretch", "interpolation": "bilinear", "fill": 0}}  # fmt: skip
    (directory / "preprocessing.json").write_text(json.dumps(stated))
    stream = io.BytesIO()
    np.savez(stream, image=rng.random((16, 32, 32, 3), np.float32))
    (directory / "samples.npz").write_bytes(stream.getvalue())
    (directory / "calibration").mkdir()
    np.save(directory / "calibration" / "samples.npy", rng.random((16, 32, 32, 3), np.float32))
    (directory / "fleet.toml").write_text(FLEET)
    (directory / "arguments.json").write_text(json.dumps(ARGUMENTS))
