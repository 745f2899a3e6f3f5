"""Zero padding before a pooling, written so that no optimizer merges the two where that is wrong.

A MaxPool's own padding is never its maximum; a zero is, in a window of only negative numbers. onnxruntime (PadFusion,
observed in 1.31, on by default) and onnx-simplifier still merge a Pad of the value 0 into the pooling. ResNet50V2 has
such a Pad before its first pooling, and its logits are then wrong by 0.3. Runtimes also refuse a pooling whose own
padding is as wide as its window.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.core.foreign import OnnxGraph, OnnxNode, OnnxTensor
from converter.formats.onnx.bind import attributes_of

SMALLEST = float(np.finfo(np.float32).tiny)
"""The smallest normal float32, 1.2e-38: as padding it has the same effect as 0, but it is not equal to 0."""

_NEVER_NEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Abs", "Exp"}


def keep_apart(graph: OnnxGraph) -> None:
    """Pad with `SMALLEST` instead of 0 where the Pad must not be merged into a pooling; `graph` is changed in place."""
    from onnx import numpy_helper

    producers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    value = ""
    for pool in graph.node:
        pad = producers.get(pool.input[0]) if pool.op_type in ("MaxPool", "AveragePool") else None
        if pad is None or pad.op_type != "Pad" or not _pads_with_zero(pad, constants):
            continue
        before = producers.get(pad.input[0])
        positive = before is not None and before.op_type in _NEVER_NEGATIVE
        if _fits(pad, pool, constants) and (positive or pool.op_type == "AveragePool"):
            continue
        if not value:
            value = _new_name("smallest_float", {*producers, *constants})
            graph.initializer.append(numpy_helper.from_array(np.array(SMALLEST, np.float32), value))
        pad.input[:] = [*pad.input[:2], value, *pad.input[3:]]


def _pads_with_zero(pad: OnnxNode, constants: Mapping[str, OnnxTensor]) -> bool:
    """Whether `pad` adds float32 zeros: its mode is constant, and its value is 0 or missing."""
    from onnx import TensorProto, numpy_helper

    if attributes_of(pad).get("mode", b"constant") != b"constant":
        return False
    if len(pad.input) < 3 or not pad.input[2]:
        return True
    known = constants.get(pad.input[2])
    return known is not None and known.data_type == TensorProto.FLOAT and not numpy_helper.to_array(known).any()


def _fits(pad: OnnxNode, pool: OnnxNode, constants: Mapping[str, OnnxTensor]) -> bool:
    """Whether the padding of both nodes together is narrower than the pooling's window on every side."""
    from onnx import numpy_helper

    if pad.input[1] not in constants:
        return False
    kernel = attributes_of(pool)["kernel_shape"]
    sizes = numpy_helper.to_array(constants[pad.input[1]]).reshape(2, -1)[:, -len(kernel) :]
    own = np.array(attributes_of(pool).get("pads", [0, 0] * len(kernel))).reshape(2, -1)
    return bool(np.all(sizes + own < np.array(kernel)))


def _new_name(wish: str, taken: set[str]) -> str:
    while wish in taken:
        wish += "_"
    return wish
