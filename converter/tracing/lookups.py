"""Which inputs of a model are indices into a table, found in the traced graph: of layers of every kind, and nested.

Keras's Embedding takes floating-point numbers too, and a value beyond its table is an error on a CPU and zero on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from converter.core.foreign import KerasModel, Tensor, TfGraph, TfOperation
from converter.tracing.context import inlined_functions
from converter.tracing.signature import Signature

_MOVES = {"Cast", "Identity", "Reshape", "ExpandDims", "Squeeze", "Transpose", "StridedSlice", "Tile", "SelectV2"}
_TESTS = {"Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual", "Shape", "Rank", "Size", "ZerosLike"}


@dataclass(frozen=True)
class Lookup:
    """The size of the smallest table that an input is an index into, 0 without one; `only`: nothing else reads it."""

    size: int = 0
    only: bool = False


def lookups(model: KerasModel, signature: Signature) -> tuple[Lookup, ...]:
    """One for each input of `signature`; none at all where the model cannot be traced."""
    import tensorflow as tf

    def forward(*tensors: Tensor) -> list[Tensor]:
        with inlined_functions():
            return signature.call(model, tensors)

    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in signature.inputs]
    try:
        graph = tf.function(forward, autograph=False).get_concrete_function(*specs).graph
    except Exception:  # noqa: BLE001  the layers' own code runs here; the trace reports what is wrong
        return ()
    tables = {id(inner): _size(outer, 0) for outer, inner in graph.captures}
    return tuple(_lookup(graph, tensor, tables) for tensor in graph.inputs[: len(specs)])


def _lookup(graph: TfGraph, tensor: Tensor, tables: dict[int, int]) -> Lookup:
    sizes, others, seen, waiting = [], False, set(), [tensor]
    while waiting:
        current = waiting.pop()
        for reader in current.consumers():
            place = next(index for index, each in enumerate(reader.inputs) if each is current)
            size = _table_of(reader, place, tables)
            if size:
                sizes.append(size)
            elif reader.type in _MOVES and id(reader) not in seen:
                seen.add(id(reader))
                waiting += reader.outputs
            elif reader.type not in (*_MOVES, *_TESTS) and not _wraps_negatives(reader):
                others = True
    return Lookup(min(sizes, default=0), bool(sizes) and not others)


def _table_of(reader: TfOperation, place: int, tables: dict[int, int]) -> int:
    """The size of the table that `reader` looks its input number `place` up in; 0 if it is no lookup, or not known."""
    import tensorflow as tf

    if reader.type == "ResourceGather" and place == 1:
        return tables.get(id(reader.inputs[0]), 0)
    if reader.type == "GatherV2" and place == 1:
        axis = tf.get_static_value(reader.inputs[2])
        return 0 if axis is None else _size(reader.inputs[0], int(axis))
    if reader.type == "OneHot" and place == 0:
        return int(tf.get_static_value(reader.inputs[1]) or 0)
    return 0


def _wraps_negatives(reader: TfOperation) -> bool:
    """Whether `reader` adds the size of the table to negative indices, as Keras does before it looks them up."""
    readers = [each.type for each in reader.outputs[0].consumers()]
    return reader.type == "AddV2" and set(readers) == {"SelectV2"}


def _size(tensor: Tensor, axis: int) -> int:
    """The size of `tensor`, or of the variable that it is a handle of, along `axis`; 0 if it is not known."""
    data = getattr(tensor, "_handle_data", None)
    if data is not None and data.shape_and_type:
        dims = [dim.size for dim in data.shape_and_type[0].shape.dim]
    else:
        dims = list(tensor.shape) if tensor.shape.rank is not None else []
    return int(dims[axis] or 0) if -len(dims) <= axis < len(dims) else 0
