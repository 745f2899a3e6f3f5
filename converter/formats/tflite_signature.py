"""A `serving_default` signature for a TFLite flatbuffer, put in front of it without repacking.

The converter writes no signature when it is given a GraphDef, and rewriting a flatbuffer of 500 MB to add a hundred
bytes is slow. A flatbuffer's references are relative and point forward, so a new root table may stand before the old
content and refer to the old root's vectors where they are; only the first eight bytes (root offset, file identifier)
are replaced. Layout: flatbuffers' internals document and tensorflow/lite/schema/schema.fbs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SIGNATURE_KEY = "serving_default"
_ALIGNMENT = 64  # the shift keeps the alignment of the weights, which the runtime maps


def with_signature(flatbuffer: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The bytes that replace the first eight of `flatbuffer`, so that its signature maps `inputs` and `outputs`.

    Both are tensor names of the first subgraph, in any order. Raises ValueError where the subgraph lacks one of them.
    """
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    old = schema.Model.GetRootAs(flatbuffer, 0)
    indices = _tensor_indices(old.Subgraphs(0))
    fields = _root_vectors(old)
    builder = flatbuffers.Builder(1024)
    signature = _signature(builder, schema, indices, inputs, outputs)
    schema.ModelStartSignatureDefsVector(builder, 1)
    builder.PrependUOffsetTRelative(signature)
    signatures = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, old.Version())
    schema.ModelAddSignatureDefs(builder, signatures)
    for slot in fields:
        builder.PrependUOffsetTRelativeSlot(slot, signatures, 0)  # a placeholder, set right below
    root = schema.ModelEnd(builder)
    builder.Finish(root, file_identifier=b"TFL3")
    head = bytearray(builder.Output())
    shift = len(head) + -len(head) % _ALIGNMENT + 8 - 8
    head.extend(b"\0" * (shift - len(head) + 8))
    _point(head, schema, fields, len(head) - 8)
    return bytes(head)


def _tensor_indices(subgraph: Any) -> dict[str, int]:
    named = [int(index) for index in (*subgraph.InputsAsNumpy(), *subgraph.OutputsAsNumpy())]
    return {subgraph.Tensors(index).Name().decode(): index for index in named}


def _signature(
    builder: Any, schema: Any, indices: dict[str, int], inputs: Sequence[str], outputs: Sequence[str]
) -> int:
    def tensor_maps(names: Sequence[str], start: Any) -> int:
        offsets = []
        for name in names:
            if name not in indices:
                raise ValueError(f"the converted graph has no input or output called {name}")
            text = builder.CreateString(name)
            schema.TensorMapStart(builder)
            schema.TensorMapAddName(builder, text)
            schema.TensorMapAddTensorIndex(builder, indices[name])
            offsets.append(schema.TensorMapEnd(builder))
        start(builder, len(offsets))
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    given = tensor_maps(inputs, schema.SignatureDefStartInputsVector)
    returned = tensor_maps(outputs, schema.SignatureDefStartOutputsVector)
    key = builder.CreateString(SIGNATURE_KEY)
    schema.SignatureDefStart(builder)
    schema.SignatureDefAddInputs(builder, given)
    schema.SignatureDefAddOutputs(builder, returned)
    schema.SignatureDefAddSignatureKey(builder, key)
    schema.SignatureDefAddSubgraphIndex(builder, 0)
    return int(schema.SignatureDefEnd(builder))


def _root_vectors(model: Any) -> dict[int, int]:
    """Slot -> absolute position of what the root table refers to there (operator codes, subgraphs, ..., metadata)."""
    table = model._tab
    fields = {}
    for slot in (1, 2, 3, 4, 5, 6):
        offset = table.Offset(4 + 2 * slot)
        if offset:
            fields[slot] = table.Indirect(table.Pos + offset)
    return fields


def _point(head: bytearray, schema: Any, fields: dict[int, int], shift: int) -> None:
    """Let the new root's slots refer to the old content, which now stands `shift` bytes later."""
    table = schema.Model.GetRootAs(head, 0)._tab
    for slot, target in fields.items():
        place = table.Pos + table.Offset(4 + 2 * slot)
        head[place : place + 4] = (target + shift - place).to_bytes(4, "little")
