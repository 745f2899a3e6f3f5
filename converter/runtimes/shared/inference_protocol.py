"""The messages of inference servers: the Open Inference Protocol, and the REST of TensorFlow Serving.

Sources: the Open Inference Protocol's REST specification, Triton's extension "binary tensor data", and TensorFlow
Serving's "RESTful API". What a server answers is checked: types, names, sizes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from converter.core.data import Array, Arrays
from converter.core.errors import InputError
from converter.core.foreign import Json, JsonObject
from converter.core.text import first_line

BINARY = "binary_tensor_data"
MAX_ANSWER = 1 << 30  # bytes
_SIZE = "binary_data_size"
TYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
"""The protocol's name of each NumPy type"""


@dataclass(frozen=True)
class Described:
    """What a server says of a model: the names of its inputs and outputs, and what runs it ("" if it does not say)."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    platform: str = ""


def json_of(body: bytes, where: str) -> JsonObject:
    """The JSON object in `body`. Raises InputError for anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _wrong(where, f"JSON: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise _wrong(where, "a JSON object")
    return found


def described_v2(found: JsonObject, where: str) -> Described:
    """The metadata of a model in the Open Inference Protocol. Raises InputError for other content."""
    try:
        names = [tuple(str(each["name"]) for each in found[side]) for side in ("inputs", "outputs")]
        return Described(names[0], names[1], str(found.get("platform", "")))
    except (KeyError, TypeError) as error:
        raise _wrong(where, "the metadata of a model, with the names of its inputs and outputs") from error


def described_v1(found: JsonObject, where: str) -> Described:
    """The metadata of a model in TensorFlow Serving. Raises InputError for other content."""
    try:
        signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
        return Described(tuple(signature["inputs"]), tuple(signature["outputs"]), "tensorflow_savedmodel")
    except (KeyError, TypeError) as error:
        raise _wrong(where, "the metadata of a model with the signature serving_default") from error


def request_v2(inputs: Arrays, outputs: list[str], binary: bool) -> tuple[bytes, dict[str, str]]:
    """A request with `inputs`, by name, for `outputs`: its body and its headers. The samples are on the first axis.

    With `binary`, the arrays follow the JSON as bytes in little-endian order. Raises InputError for a type that the
    protocol lacks.
    """
    described: list[JsonObject] = []
    tail = []
    for name, array in inputs.items():
        if array.dtype.name not in TYPES:
            raise InputError(f"{name}: the protocol has no type for {array.dtype.name}")
        one: JsonObject = {"name": name, "shape": list(array.shape), "datatype": TYPES[array.dtype.name]}
        if binary:
            tail.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
            one["parameters"] = {_SIZE: len(tail[-1])}
        else:
            one["data"] = array.ravel().tolist()
        described.append(one)
    asked: list[JsonObject] = [
        {"name": name, **({"parameters": {"binary_data": True}} if binary else {})} for name in outputs
    ]
    text = json.dumps({"inputs": described, "outputs": asked}).encode()
    if not binary:
        return text, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return b"".join([text, *tail]), headers


def answer_v2(body: bytes, header: str, types: Mapping[str, str], where: str) -> dict[str, Array]:
    """The outputs in an answer, by name, of the NumPy types `types`.

    `header` is the length of the answer's JSON if the bytes of arrays follow it, else "". Raises InputError for an
    answer without one of the outputs, of another type, or of other sizes than it says.
    """
    end = int(header) if header.isdecimal() else len(body)
    found, tail, results = json_of(body[:end], where), memoryview(body)[end:], {}
    try:
        for each in found["outputs"]:
            name, kind, shape = str(each["name"]), str(each["datatype"]), [int(axis) for axis in each["shape"]]
            if name not in types:
                continue
            if kind != TYPES[types[name]]:
                raise _wrong(where, f"{name} as {TYPES[types[name]]}, but it is {kind[:20]}")
            size = each.get("parameters", {}).get(_SIZE)
            if size is None:
                results[name] = _array(each["data"], types[name]).reshape(shape)
            elif not 0 <= int(size) <= len(tail):
                raise _wrong(where, f"{name}, but it says {size} bytes of {len(tail)}")
            else:
                results[name] = np.frombuffer(tail[:size], np.dtype(types[name]).newbyteorder("<")).reshape(shape)
                tail = tail[size:]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _wrong(where, f"outputs: {first_line(error)}") from error
    return _complete(results, types, where)


def request_v1(inputs: Arrays) -> tuple[bytes, dict[str, str]]:
    """A request to TensorFlow Serving with `inputs`, by name, in its column format: its body and its headers."""
    columns = {name: array.tolist() for name, array in inputs.items()}
    text = json.dumps({"signature_name": "serving_default", "inputs": columns}).encode()
    return text, {"Content-Type": "application/json"}


def answer_v1(body: bytes, types: Mapping[str, str], where: str) -> dict[str, Array]:
    """The outputs in an answer of TensorFlow Serving: an object by name, or the values of the only output.

    Raises InputError for an answer without one of the outputs, or with arrays of no shape.
    """
    found = json_of(body, where).get("outputs")
    try:
        if len(types) == 1 and not isinstance(found, dict):
            found = {next(iter(types)): found}
        by_name: JsonObject = found if isinstance(found, dict) else {}
        results = {name: _array(by_name[name], dtype) for name, dtype in types.items() if name in by_name}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _wrong(where, f"outputs: {first_line(error)}") from error
    return _complete(results, types, where)


def _array(values: Json, dtype: str) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":  # text, or lists of different lengths
        raise ValueError("not an array of numbers")
    return array.astype(dtype)


def _complete(results: dict[str, Array], types: Mapping[str, str], where: str) -> dict[str, Array]:
    missing = [name for name in types if name not in results]
    if missing:
        raise _wrong(where, f"the outputs {', '.join(missing)[:200]}")
    return results


def _wrong(where: str, expected: str) -> InputError:
    return InputError(f"{where}: the answer is not one of its protocol; expected {expected}")
