"""A finished TFLite file opened for editing: tensors, operators and constants of its one subgraph."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converter.core.data import Array
from converter.core.errors import ConversionError, InputError
from converter.core.foreign import FlatbufferObject, Module
from converter.core.text import first_line

FLOAT32, FLOAT16, INT32, INT8 = 0, 1, 2, 9  # schema.fbs: TensorType
NONE = -1
_ZERO_POINT_SLOT = 10  # vtable offset of QuantizationParameters.zero_point
_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64, 9: np.int8}


def schema() -> Module:
    """The classes of TFLite's flatbuffer."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


class TfliteFile:
    """The content of a TFLite file; `tensors` and `operators` are those of its subgraph and may be changed."""

    def __init__(self, path: Path) -> None:
        """Raises InputError for a file that is no TFLite file, ConversionError for one with several subgraphs."""
        content = path.read_bytes()
        if content[4:8] != b"TFL3":
            raise InputError(f"{path}: not a TFLite file")
        self.model = schema().ModelT.InitFromObj(schema().Model.GetRootAs(content, 0))
        if len(self.model.subgraphs) != 1:
            raise ConversionError(
                f"{path.name}: holds loops or conditions, which stay in float32\nexport float32 alone"
            )
        self.graph = self.model.subgraphs[0]
        self.graph.operators = list(self.graph.operators)
        self.graph.tensors = list(self.graph.tensors)
        self.written: dict[int, Array] = {}
        self._names = {value: name for name, value in vars(schema().BuiltinOperator).items() if isinstance(value, int)}

    @property
    def tensors(self) -> list[FlatbufferObject]:
        """The tensors by index."""
        return self.graph.tensors  # type: ignore[no-any-return]

    @property
    def operators(self) -> list[FlatbufferObject]:
        """The operators in the order in which they run."""
        return self.graph.operators  # type: ignore[no-any-return]

    def kind(self, operator: FlatbufferObject) -> str:
        """The name of an operator, as in CONV_2D."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return str(self._names[max(code.builtinCode, code.deprecatedBuiltinCode)])

    def name(self, index: int) -> str:
        """The name of a tensor."""
        return str(self.tensors[index].name.decode())

    def constant(self, index: int) -> Array | None:
        """The value of a constant tensor, None for others."""
        if index == NONE:
            return None
        tensor = self.tensors[index]
        if tensor.buffer in self.written:
            return self.written[tensor.buffer]
        data = self.model.buffers[tensor.buffer].data
        if data is None or tensor.type not in _DTYPES or not len(data):
            return None
        return np.asarray(data, np.uint8).view(_DTYPES[tensor.type]).reshape(_shape(tensor))

    def add(self, like: int, name: str, kind: int) -> int:
        """The index of a new variable tensor with the shape of the tensor `like`."""
        tensor = copy.copy(self.tensors[like])
        tensor.name, tensor.type, tensor.buffer, tensor.quantization = name.encode(), kind, 0, None
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def set(self, index: int, array: Array, kind: int) -> None:
        """Make `array` the value of the constant tensor `index`; its buffer is its own afterwards."""
        self.model.buffers.append(schema().BufferT())
        tensor = self.tensors[index]
        tensor.buffer, tensor.type = len(self.model.buffers) - 1, kind
        tensor.shape = list(array.shape)
        self.written[tensor.buffer] = array

    def operator(self, kind: str, version: int, inputs: list[int], outputs: list[int]) -> FlatbufferObject:
        """A new operator without options; the caller puts it into `operators`."""
        made = schema().OperatorT()
        made.opcodeIndex = self.code(getattr(schema().BuiltinOperator, kind), version)
        made.inputs, made.outputs = inputs, outputs
        options = {"DEQUANTIZE": "DequantizeOptions", "QUANTIZE": "QuantizeOptions"}[kind]
        made.builtinOptionsType = getattr(schema().BuiltinOptions, options)
        made.builtinOptions = getattr(schema(), f"{options}T")()
        return made

    def code(self, builtin: int, version: int) -> int:
        """The index of an operator code of at least `version`, which is added, or raised, where it is missing."""
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and not code.customCode:
                code.version = max(code.version, version)
                return index
        code = schema().OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def save(self, path: Path) -> tuple[int, dict[str, int]]:
        """Write the file; returns its size and the operator histogram. Buffers that nothing reads are emptied."""
        from converter.formats.tflite import file

        used = {tensor.buffer for tensor in self.tensors}
        for index, buffer in enumerate(self.model.buffers):
            if index not in used and not self._metadata(index):
                buffer.data = None
        written = {index: array for index, array in self.written.items() if index in used}
        operators = Counter(self.kind(operator) for operator in self.operators)
        zeros = {}
        for index, tensor in enumerate(self.tensors):
            points = None if tensor.quantization is None else tensor.quantization.zeroPoint
            if points is not None and len(points) > 1 and not any(points):
                zeros[index], tensor.quantization.zeroPoint = len(points), [0]
        try:
            file.save(self.model, written, path)
        except (TypeError, ValueError) as error:
            raise ConversionError(f"{path.name}: cannot be packed: {first_line(error)}") from error
        _share_zeros(path, zeros)
        return path.stat().st_size, dict(sorted(operators.items()))

    def _metadata(self, index: int) -> bool:
        return any(each.buffer == index for each in self.model.metadata or ())


def _share_zeros(path: Path, zeros: Mapping[int, int]) -> None:
    """Give each tensor of `zeros` as many zero points as it says, all 0: one vector for all of the same length.

    TFLite wants as many zero points as scales, eight bytes each; vectors of a flatbuffer may be shared.
    """
    if not zeros:
        return
    content = bytearray(path.read_bytes())
    graph = schema().Model.GetRootAs(content, 0).Subgraphs(0)
    places: dict[int, int] = {}
    for length in sorted(set(zeros.values())):
        content += b"\0" * (-(len(content) + 4) % 8)  # the elements begin at a multiple of their size
        places[length] = len(content)
        content += length.to_bytes(4, "little") + b"\0" * (8 * length)
    for index, length in zeros.items():
        table = graph.Tensors(index).Quantization()._tab
        field = table.Pos + table.Offset(_ZERO_POINT_SLOT)
        content[field : field + 4] = (places[length] - field).to_bytes(4, "little")
    path.write_bytes(content)


def _shape(tensor: FlatbufferObject) -> list[int]:
    return [] if tensor.shape is None else [int(size) for size in tensor.shape]
