"""TFLite metadata: the flatbuffer in the model that describes its inputs and outputs, and the files packed after it.

The flatbuffer's schema is `metadata_schema.fbs` 1.5.0 (identifier M001) of TensorFlow Lite; it is built by hand: the
package that had a writer is no longer maintained. Numbers of fields are their order in that schema. A reader finds
the flatbuffer through the entry TFLITE_METADATA of the model, and the files as a zip archive at the end of the file.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from converter.core.data import TensorSpec, Traced
from converter.core.foreign import FlatbufferBuilder, FlatbufferObject, Json
from converter.data.about import ABOUT_FILE, LABEL_FILE, text_entries

NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
SCHEMA_VERSION = "1.5.0"
_TENSOR_AXIS_LABELS = 2  # AssociatedFileType
_RGB, _GRAYSCALE = 1, 2  # ColorSpaceType
_FEATURE, _IMAGE = 1, 2  # ContentProperties
_NORMALIZATION = 1  # ProcessUnitOptions
_EPOCH = (1980, 1, 1, 0, 0, 0)


def add(model: FlatbufferObject, traced: Traced, interface: Mapping[str, Json]) -> None:
    """Add the metadata of `traced` to `model` (ModelT); nothing where nothing is known of the model."""
    from tensorflow.lite.python import schema_py_generated as schema

    if not traced.about:
        return
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(_flatbuffer(traced, interface))
    model.buffers.append(buffer)
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]


def append_files(path: Path, traced: Traced, interface: Mapping[str, Json]) -> int:
    """Append the label file and `cnnexport.json` to the file as a zip archive; returns the size of the file."""
    if traced.about:
        labels = traced.about.get("labels") or ()
        files = {ABOUT_FILE: json.dumps(text_entries(traced.about, interface), sort_keys=True)}
        if labels:
            files[LABEL_FILE] = "".join(f"{label}\n" for label in labels)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
            for name, text in files.items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), text)
    return path.stat().st_size


def _flatbuffer(traced: Traced, interface: Mapping[str, Json]) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    preprocessing, labels = traced.about.get("preprocessing") or {}, traced.about.get("labels") or ()
    inputs = [_input(builder, spec, preprocessing) for spec in traced.inputs.values()]
    outputs = [_output(builder, spec, len(labels)) for spec in traced.outputs.values()]
    entries = text_entries(traced.about, interface)
    custom = []
    for key, text in entries.items():
        name, data = builder.CreateString(key), _aligned_bytes(builder, text.encode())
        custom.append(_table(builder, 2, {0: name, 1: data}))
    graph = _table(
        builder,
        10,
        {2: _vector(builder, inputs), 3: _vector(builder, outputs), 9: _vector(builder, custom)},
    )
    text = str(preprocessing.get("description", ""))
    description, version = builder.CreateString(f"input: {text}" if text else ""), builder.CreateString(SCHEMA_VERSION)
    root = _table(builder, 8, {1: description, 3: _vector(builder, [graph]), 7: version})
    builder.Finish(root, file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _input(builder: FlatbufferBuilder, spec: TensorSpec, preprocessing: Mapping[str, Json]) -> int:
    """A TensorMetadata with the colours of an image and, where the schema can say it, its normalization."""
    name = builder.CreateString(spec.name)
    fields = {0: name}
    channels = preprocessing.get("channels")
    if channels is None or len(spec.shape) != 4:
        return _table(builder, 7, fields)
    fields[1] = builder.CreateString(f"{channels} image; {preprocessing.get('description', '')}")
    colours = {"rgb": _RGB, "gray": _GRAYSCALE}.get(str(channels), 0)  # the schema does not know BGR
    properties = _table(builder, 2, {}, bytes_={0: colours})
    fields[3] = _table(builder, 3, {1: properties}, bytes_={0: _IMAGE})
    scale, mean = (_list(preprocessing.get(key)) for key in ("scale", "mean"))
    if colours and scale and mean:  # (pixel - mean) / std
        mean = mean * len(scale) if len(mean) == 1 else mean
        scale = scale * len(mean) if len(scale) == 1 else scale
        means = _floats(builder, [m / s for m, s in zip(mean, scale, strict=True)])
        deviations = _floats(builder, [1.0 / each for each in scale])
        options = _table(builder, 2, {0: means, 1: deviations})
        unit = _table(builder, 2, {1: options}, bytes_={0: _NORMALIZATION})
        fields[4] = _vector(builder, [unit])
        low, high = preprocessing["range"]
        largest, smallest = _floats(builder, [float(high)]), _floats(builder, [float(low)])
        fields[5] = _table(builder, 2, {0: largest, 1: smallest})
    return _table(builder, 7, fields)


def _output(builder: FlatbufferBuilder, spec: TensorSpec, labels: int) -> int:
    """A TensorMetadata; where the last axis has a class for each label, the label file belongs to it."""
    fields = {0: builder.CreateString(spec.name)}
    fields[3] = _table(builder, 3, {1: _table(builder, 0, {})}, bytes_={0: _FEATURE})
    if labels and spec.shape[-1] == labels:
        name = builder.CreateString(LABEL_FILE)
        file = _table(builder, 5, {0: name}, bytes_={2: _TENSOR_AXIS_LABELS})
        fields[6] = _vector(builder, [file])
    return _table(builder, 7, fields)


def _table(
    builder: FlatbufferBuilder, count: int, offsets: Mapping[int, int], *, bytes_: Mapping[int, int] | None = None
) -> int:
    """A table of `count` fields: references by number in `offsets`, numbers of one byte in `bytes_`."""
    builder.StartObject(count)
    for number, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    for number, value in (bytes_ or {}).items():
        builder.PrependInt8Slot(number, value, 0)
    return int(builder.EndObject())


def _vector(builder: FlatbufferBuilder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: FlatbufferBuilder, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())


def _aligned_bytes(builder: FlatbufferBuilder, content: bytes) -> int:
    builder.StartVector(1, len(content), 16)
    builder.head = builder.head - len(content)
    builder.Bytes[builder.head : builder.head + len(content)] = content
    return int(builder.EndVector())


def _list(value: Json) -> list[float]:
    return (
        [float(each) for each in value] if isinstance(value, list | tuple) else [] if value is None else [float(value)]
    )
