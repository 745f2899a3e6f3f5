"""Zero padding before a pooling, written so that no optimizer merges the two where that is wrong.

A MaxPool's own padding never wins the maximum; a zero does, wherever a window holds negative numbers only. onnxruntime
(PadFusion, seen in 1.31, on by default) and onnx-simplifier merge a Pad of the value 0 all the same: ResNet50V2, which
pads so before its first pooling, is then wrong by 0.3 of its logits. And padding as wide as the pooling's window is
refused where it is the pooling's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from converter.formats.onnx.bind import attributes_of

SMALLEST = float(np.finfo(np.float32).tiny)
"""The smallest normal float32, 1.2e-38: as padding it does what 0 does, and it is not equal to 0."""

_NEVER_NEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Abs", "Exp"}


def keep_apart(graph: Any) -> None:
    """Pad with `SMALLEST` in place of 0 in `graph` (a GraphProto) where a pooling must not take the padding over."""
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


def _pads_with_zero(pad: Any, constants: Mapping[str, Any]) -> bool:
    """Whether `pad` adds float32 zeros: its mode is constant, and its value 0 or left out."""
    from onnx import TensorProto, numpy_helper

    if attributes_of(pad).get("mode", b"constant") != b"constant":
        return False
    if len(pad.input) < 3 or not pad.input[2]:
        return True
    known = constants.get(pad.input[2])
    return known is not None and known.data_type == TensorProto.FLOAT and not numpy_helper.to_array(known).any()


def _fits(pad: Any, pool: Any, constants: Mapping[str, Any]) -> bool:
    """Whether the padding of both together is narrower than the pooling's window on every side."""
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
