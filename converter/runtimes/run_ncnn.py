"""ncnn on the CPU, in float32: reads ONNX files, which pnnx converts for it.

So both the artifact and pnnx's conversion of it are verified. ncnn has no batch axis: samples run one by one.
"""

from __future__ import annotations

import atexit
import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime, TensorSpec
from converter.core.ending import bound
from converter.core.errors import ChildError, ConversionError, InputError
from converter.core.foreign import Session
from converter.core.text import NO_REASON, last_line
from converter.runtimes.shared.installed import cpu_name, installed, missing, threads
from converter.runtimes.shared.names import onnx_interface, require_names
from converter.runtimes.shared.onnx_records import copy_onnx

_REQUIREMENT = "cnnexport[ncnn]"
_CONVERSION_SECONDS = 600
_TYPES = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64"}
_PADS = re.compile(r"ignore Pad (\S+) param pads=\(([-0-9,]+)\)")


def version() -> str | None:
    """The installed version of ncnn, or None."""
    return installed("ncnn")


def unavailable(device: str) -> str | None:
    """Why ncnn cannot run on `device` here, or None. Nothing is imported."""
    if device != "cpu":
        return "ncnn runs on the CPU only"
    return missing("ncnn", _REQUIREMENT) or missing("pnnx", _REQUIREMENT)


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Convert an ONNX file for one sample and load the result; pnnx numbers inputs and outputs in the file's order.

    Raises InputError where pnnx or ncnn refuses the file or a name differs, ConversionError for an operator that pnnx
    leaves out, ChildError where pnnx crashes.
    """
    import ncnn

    inputs, outputs = onnx_interface(path, artifact)
    specs = {spec.name: spec for spec in artifact.inputs}
    shapes = ",".join(_one_sample(specs[name], path) for name in inputs)
    scratch = tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True)
    atexit.register(scratch.cleanup)
    net = _loaded(_convert(path, shapes, Path(scratch.name)), path)
    require_names(path, "ncnn input", [f"in{index}" for index in range(len(inputs))], net.input_names())
    require_names(path, "ncnn output", [f"out{index}" for index in range(len(outputs))], net.output_names())

    def one(sample: Mapping[str, Array]) -> list[Array]:
        extractor = net.create_extractor()
        for index, name in enumerate(inputs):
            if extractor.input(f"in{index}", ncnn.Mat(np.ascontiguousarray(sample[name]))):
                raise InputError(f"{path}: ncnn refuses input {name}")
        results = []
        for index, name in enumerate(outputs):
            status, mat = extractor.extract(f"out{index}")
            if status:
                raise InputError(f"{path}: ncnn cannot compute output {name} (status {status})")
            results.append(np.array(mat))
        return results

    def run(given: Arrays) -> dict[str, Array]:
        count = len(next(iter(given.values())))
        samples = [one({name: array[index] for name, array in given.items()}) for index in range(count)]
        return {name: np.stack(arrays) for name, arrays in zip(outputs, zip(*samples, strict=True), strict=True)}

    facts = {
        "ncnn": version(),
        "pnnx": installed("pnnx"),
        "batch": "sample by sample",
        "device_name": cpu_name(),
        "threads": net.opt.num_threads,
    }
    return Prepared(run, facts)


def _one_sample(spec: TensorSpec, path: Path) -> str:
    """The shape and type of one sample in pnnx's notation: "[1,3,32,32]f32"."""
    if None in spec.shape[1:] or spec.dtype not in _TYPES:
        raise ConversionError(
            f"{path}: ncnn needs a fixed size and a plain number type; input {spec.name} is {spec.shape}, {spec.dtype}"
        )
    if (spec.shape[0] or 1) != 1:
        raise ConversionError(f"{path}: ncnn has no batch axis, but the batch is fixed at {spec.shape[0]}")
    return f"[{','.join(map(str, (1, *spec.shape[1:])))}]{_TYPES[spec.dtype]}"


def _loaded(converted: Path, path: Path) -> Session:
    """ncnn's network from `converted`.param and .bin, in float32."""
    import ncnn

    net = ncnn.Net()
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    net.opt.num_threads = threads()
    if net.load_param(f"{converted}.param") or net.load_model(f"{converted}.bin"):
        raise InputError(f"{path}: ncnn cannot load pnnx's conversion of it")
    return net


def _convert(path: Path, shapes: str, directory: Path) -> Path:
    """Convert a copy of `path` in `directory` with pnnx; returns the common path of the .param and .bin files."""
    spec = importlib.util.find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise ConversionError(f"{path}: {missing('pnnx', _REQUIREMENT)}")
    model = directory / "model.onnx"
    copy_onnx(path, model)  # pnnx writes beside its input
    try:
        done = subprocess.run(
            bound([str(Path(spec.origin).with_name("pnnx")), model.name, f"inputshape={shapes}", "fp16=0"]),
            cwd=directory,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CONVERSION_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"{path}: pnnx did not finish within {_CONVERSION_SECONDS} s") from error
    printed = done.stdout + done.stderr
    if done.returncode < 0:
        raise ChildError(f"{path}: pnnx was killed by signal {-done.returncode}")
    converted = directory / "model.ncnn"
    parameters = converted.with_name("model.ncnn.param")
    if done.returncode or not parameters.is_file():
        raise InputError(f"{path}: pnnx cannot convert it: {last_line(printed) or NO_REASON}")
    parameters.write_text(_complete(parameters.read_text(), printed, path))
    return converted


def _complete(parameters: str, printed: str, path: Path) -> str:
    """ncnn's parameters, with ncnn's Padding for each ONNX Pad that pnnx copied unchanged.

    pnnx leaves out what it does not support and prints "ignore <operator> ..."; everything except a zero Pad of known
    size raises ConversionError.
    """
    pads = dict(_PADS.findall(printed))
    ignored = [line.split() for line in printed.splitlines() if line.startswith("ignore ") and not _PADS.match(line)]
    left_out = dict.fromkeys(words[2] if len(words) > 2 else " ".join(words) for words in ignored)
    if left_out:
        raise ConversionError(f"{path}: pnnx has no counterpart in ncnn for {', '.join(left_out)[:200]}")
    lines = []
    for line in parameters.splitlines():
        if line.startswith("Pad "):
            name = line.split()[1]
            if name not in pads:
                raise ConversionError(f"{path}: pnnx does not report how {name} pads")
            line = f"Padding{line[3:]} {_padding([int(each) for each in pads[name].split(',')], name, path)}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _padding(pads: Sequence[int], name: str, path: Path) -> str:
    """The parameters of ncnn's Padding for an image: rows, columns and channels; `pads` in ONNX's order."""
    if len(pads) != 8 or pads[0] or pads[4] or min(pads) < 0:
        raise ConversionError(f"{path}: {name} pads {pads}, for which ncnn has no counterpart")
    _, front, top, left, _, behind, bottom, right = pads
    return f"0={top} 1={bottom} 2={left} 3={right} 4=0 5=0.0 7={front} 8={behind}"


RUNTIME = Runtime("ncnn", ("onnx",), ("cpu",), version, unavailable, prepare)
