"""NVIDIA Triton Inference Server: a model repository, `NAME/config.pbtxt` and `NAME/VERSION/…`.

With a free batch axis, `dims` leave it out and `max_batch_size` bounds it; with a fixed one, `max_batch_size` is 0 and
`dims` have all axes (Triton, "Model Configuration").
"""

from __future__ import annotations

from collections.abc import Iterator

from converter.bundle.proven import Proven
from converter.core.data import Artifact, TensorSpec
from converter.core.errors import UsageError
from converter.serving.content import (
    Files,
    PackageOptions,
    files_of,
    labelled_output,
    model_name,
    served,
    without_batch,
)

PLACES = {"onnx": ("onnxruntime_onnx", "model.onnx"), "saved-model": ("tensorflow_savedmodel", "model.savedmodel")}
"""Platform and file name by format."""
TYPES = {
    "bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64", "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64",
    "float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64", "string": "TYPE_STRING",
}  # fmt: skip
LABELS = "labels.txt"


def layout(proven: Proven, options: PackageOptions) -> Files:
    """The model repository. Raises UsageError for an artifact or a type that Triton does not take."""
    artifact = served(proven, options, tuple(PLACES))
    name = model_name(proven, options)
    labelled = labelled_output(proven, artifact)
    files = dict(files_of(proven, artifact, f"{name}/{options.version}/{PLACES[artifact.format][1]}"))
    files[f"{name}/config.pbtxt"] = config(artifact, name, options.max_batch, labelled)
    if labelled:
        files[f"{name}/{LABELS}"] = "".join(f"{' '.join(each.split())}\n" for each in proven.manifest.labels)
    return files


def config(artifact: Artifact, name: str, max_batch: int, labelled: str | None = None) -> str:
    """config.pbtxt, as protobuf text. `labelled` is the output that has labels."""
    batched = all(each.shape and each.shape[0] is None for each in (*artifact.inputs, *artifact.outputs))
    lines = [
        f"name: {quoted(name)}",
        f"platform: {quoted(PLACES[artifact.format][0])}",
        f"max_batch_size: {max_batch if batched else 0}",
    ]
    for field, specs in (("input", artifact.inputs), ("output", artifact.outputs)):
        for spec in specs:
            given = without_batch(spec) if batched else spec
            lines += [f"{field} {{", *(f"  {line}" for line in _tensor(given, field)), *_label(spec, labelled), "}"]
    if batched:
        lines.append("dynamic_batching { }")
    return "\n".join(lines) + "\n"


def _tensor(spec: TensorSpec, field: str) -> Iterator[str]:
    if spec.dtype not in TYPES:
        raise UsageError(f"{spec.name}: Triton has no type for {spec.dtype}")
    yield f"name: {quoted(spec.name)}"
    yield f"data_type: {TYPES[spec.dtype]}"
    if field == "input" and spec.layout and len(spec.shape) == 3:
        yield f"format: FORMAT_{spec.layout.upper()}"
    if not spec.shape:  # dims may not be empty
        yield "dims: [ 1 ]"
        yield "reshape { shape: [ ] }"
        return
    yield f"dims: [ {', '.join(str(-1 if axis is None else axis) for axis in spec.shape)} ]"


def _label(spec: TensorSpec, labelled: str | None) -> list[str]:
    return [f"  label_filename: {quoted(LABELS)}"] if spec.name == labelled else []


def quoted(text: str) -> str:
    """`text` as a string of protobuf's text format: UTF-8, with octal escapes for all but plain characters."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"\"\\'" else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'
