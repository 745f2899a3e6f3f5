"""A TFLite graph as the operators of a plan: what has an int8 kernel in TFLite, and what shares its scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from converter.core.foreign import FlatbufferObject
from converter.quantize.plan import ENDS, Kernel, Operator
from converter.quantize.ranges import SIGMOID, TANH
from converter.quantize.tflite_file import FLOAT32, NONE, TfliteFile
from converter.tracing.naming import layer_of

KERNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""The operators with a kernel, and the axis of its output channels"""

SHARE = {
    "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "CONCATENATION", "SLICE",
    "STRIDED_SLICE", "SPLIT", "PAD", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH",
    "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "REDUCE_MAX",
}  # fmt: skip
FREE = {"ADD", "MUL", "SUB", "MEAN", "LEAKY_RELU", "RELU", "RELU6", "HARD_SWISH"}
FIXED = {"LOGISTIC": SIGMOID, "TANH": TANH}
OPERANDS = ("ADD", "MUL", "SUB")
INT8_VERSIONS = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "HARD_SWISH": 1, "RESHAPE": 1, "EXPAND_DIMS": 1,
    "SUB": 3,
}  # fmt: skip
"""The first version of an operator that computes in int8, where it is not 2"""


def operators(file: TfliteFile, layers: Mapping[str, str]) -> list[Operator]:
    """The operators that compute float32 tensors, in the order in which they run.

    Tensors have their names in the file; one whose name occurs twice has its index behind the name, as no runtime can
    be asked for it.
    """
    names = tensor_names(file)
    found = []
    ends = {int(index) for index in file.graph.outputs}
    for place, operator in enumerate(file.operators):
        if any(file.tensors[index].type == FLOAT32 for index in operator.outputs):
            step = _operator(file, names, place, operator, layers)
            last = step.fixed is not None and any(int(index) in ends for index in operator.outputs)
            found.append(replace(step, kind="float", fixed=None, reason=ENDS) if last else step)
    return found


def tensor_names(file: TfliteFile) -> list[str]:
    """A name for each tensor by its index, all different."""
    names = [file.name(index) for index in range(len(file.tensors))]
    times = Counter(names)
    return [name if name and times[name] == 1 else f"{name}#{index}" for index, name in enumerate(names)]


def _operator(
    file: TfliteFile, names: list[str], place: int, operator: FlatbufferObject, layers: Mapping[str, str]
) -> Operator:
    kind = file.kind(operator)
    read = [int(index) for index in operator.inputs if index != NONE]
    floats = [index for index in read if file.tensors[index].type == FLOAT32]
    constants = {names[index]: array for index in floats if (array := file.constant(index)) is not None}
    inputs = [names[index] for index in floats if names[index] not in constants]
    outputs = [int(index) for index in operator.outputs]
    kernel = _kernel(file, names, operator, kind)
    layer = _layer(file, [*([read[1]] if kernel else []), *outputs], layers)
    group, reason = "float", f"{kind} has no int8 form"
    if kernel is not None:
        group = "weights"
    elif kind in SHARE:
        group, reason = ("float", "one of its inputs is a constant") if constants else ("share", "")
    elif kind in FREE | FIXED.keys():
        group = "free"
    return Operator(
        kind=group,  # type: ignore[arg-type]
        name=names[outputs[0]],
        layer=layer,
        nodes=(place,),
        inputs=tuple(dict.fromkeys(inputs)),
        outputs=tuple(names[index] for index in outputs),
        kernel=kernel,
        fixed=FIXED.get(kind),
        constants=constants if kind in OPERANDS else None,
        reason=reason,
    )


def _kernel(file: TfliteFile, names: list[str], operator: FlatbufferObject, kind: str) -> Kernel | None:
    """The kernel of an operator, None where it has none, or one that is computed."""
    array = file.constant(int(operator.inputs[1])) if kind in KERNELS else None
    if array is None:
        return None
    bias = int(operator.inputs[2]) if len(operator.inputs) > 2 else NONE
    if bias == NONE:
        return Kernel(names[operator.inputs[1]], array, KERNELS[kind])
    values = file.constant(bias)
    return None if values is None else Kernel(names[operator.inputs[1]], array, KERNELS[kind], names[bias], values)


def _layer(file: TfliteFile, indices: list[int], layers: Mapping[str, str]) -> str:
    """The Keras layer of an operator: of its kernel's name, or of the first part of its result's that is in one."""
    parts = [part for index in indices for part in file.name(index).split(";")]
    found = [layer_of(part, layers) for part in parts]
    return next((name for name in found if name in layers), found[0] if found else "")
