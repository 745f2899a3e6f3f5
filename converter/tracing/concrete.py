"""model -> the function that TensorFlow traces, of one tensor for each input.

An export needs two graphs: with Keras's own arithmetic, for the reference, and with batch normalizations that fold into
kernels, for the files. Tracing runs the Python code of every layer, so within `traced_once` both come from one trace.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from converter.core.errors import ConversionError
from converter.core.foreign import GraphDef, KerasModel, Tensor, TfFunction
from converter.core.text import reason_of
from converter.tracing.calls import Pair, Rule, affine, all_steps, any_size, beside, replaced_calls
from converter.tracing.context import inlined_functions
from converter.tracing.functions import called_by
from converter.tracing.plain_functions import plain_functions
from converter.tracing.preprocessing import compared_lookup, padded_resizing
from converter.tracing.recurrent import whole_sequences
from converter.tracing.signature import Signature

ALWAYS = (any_size, all_steps, padded_resizing, compared_lookup)
"""Rules that keep the layer's arithmetic."""


@dataclass(frozen=True)
class Concrete:
    """A traced function of tensors in the signature's order; its outputs are by their index as text.

    `moved` has the node of each folded batch normalization by that of Keras's own, if both are in the graph.
    """

    function: TfFunction
    moved: Mapping[str, str] = field(default_factory=dict)

    def graph_def(self, fold: bool) -> GraphDef:
        """A copy of the graph, with shapes. With `fold`, what read Keras's own normalizations reads the folded ones."""
        found = self.function.graph.as_graph_def(add_shapes=True)
        if fold and self.moved:
            for node in found.node:
                node.input[:] = [self.moved.get(name, name) for name in node.input]
        return found


_Kept = dict[Hashable, tuple[KerasModel, Concrete | None]]

_kept: ContextVar[_Kept | None] = ContextVar("_kept", default=None)


@contextmanager
def traced_once() -> Iterator[None]:
    """Within the context, a model is traced once for each signature, if its two graphs can be told apart afterwards."""
    before = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(before)


def concrete(model: KerasModel, signature: Signature, fold: bool) -> Concrete:
    """The function of `model` for the shapes of `signature`, for the graph with or without `fold`.

    Raises ConversionError where a layer cannot be traced for these shapes.
    """
    kept = _kept.get()
    if kept is not None:
        key = id(model), *((spec.shape, spec.dtype) for spec in signature.inputs)
        if key not in kept:
            kept[key] = model, _of_both(model, signature)
        both = kept[key][1]
        if both is not None:
            return both
    return Concrete(_settled(model, signature, (affine,) if fold else (), []))


def _of_both(model: KerasModel, signature: Signature) -> Concrete | None:
    """The function with both results of each normalization that folds; None if they cannot be told apart afterwards.

    That is so within a loop, whose body is a graph of its own, and where the two have different types.
    """
    pairs: list[Pair] = []
    function = _settled(model, signature, (beside(affine, pairs),), pairs)
    if any(each.graph is not function.graph for pair in pairs for each in pair):
        return None
    if any(own.dtype != other.dtype or own.op.outputs[0] is not own for own, other in pairs):
        return None
    return Concrete(function, {own.op.name: other.op.name for own, other in pairs})


def _settled(model: KerasModel, signature: Signature, rules: Sequence[Rule], pairs: list[Pair]) -> TfFunction:
    """The function whose loops and conditions get values, not variables. `pairs` are those of its trace alone."""
    function = _traced(model, signature, rules)
    if _reads_variables_in_functions(function):
        pairs.clear()
        with _variables_outside(model):
            function = _traced(model, signature, rules)
    return function


def _traced(model: KerasModel, signature: Signature, rules: Sequence[Rule]) -> TfFunction:
    import tensorflow as tf

    def forward(*tensors: Tensor) -> dict[str, Tensor]:
        with inlined_functions():
            flat = signature.call(model, tensors)
        return {str(index): tf.identity(value) for index, value in enumerate(flat)}

    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=f"arg_{index}") for index, spec in enumerate(signature.inputs)]
    with replaced_calls(model, (*ALWAYS, *rules)), whole_sequences(model), plain_functions():
        try:
            return tf.function(forward, autograph=False).get_concrete_function(*specs)
        except Exception as error:  # the layers' own code runs here and may raise anything
            shapes = ", ".join(str(tuple(spec.shape)) for spec in signature.inputs)
            raise ConversionError(
                f"{model.name}: cannot be traced for inputs of shape {shapes}: {reason_of(error)}\n"
                "build the model with fixed sizes where a layer computes with them"
            ) from error


def _reads_variables_in_functions(function: TfFunction) -> bool:
    """Whether a loop or a condition gets a variable, and not its value."""
    graph = function.graph
    return any(
        tensor.dtype.name == "resource" and called_by(operation.node_def)
        for operation in graph.get_operations()
        for tensor in operation.inputs
    )


@contextmanager
def _variables_outside(model: KerasModel) -> Iterator[None]:
    """Within the context, a trace of `model` reads each variable once and before everything else."""
    import keras
    import tensorflow as tf

    original = model.call

    def call(*arguments: object, **keywords: object) -> object:
        values = [(each, tf.identity(each.value)) for each in model.variables if each.dtype != "string"]
        with keras.StatelessScope(state_mapping=values):
            return original(*arguments, **keywords)

    model.__dict__["call"] = call
    try:
        yield
    finally:
        del model.__dict__["call"]
