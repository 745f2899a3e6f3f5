"""A functional or Sequential model for inputs of other shapes: the same layers, called once more on new inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from converter.core.data import Shape
from converter.core.errors import UsageError
from converter.core.foreign import KerasModel, KerasOperation, KerasTensor, TensorTree
from converter.tracing.blame import failed_in, whole_tracebacks


class RefusedError(UsageError):
    """A layer does not take the shape that it would get; `layer` is its name."""


def resized(model: KerasModel, shapes: Sequence[Shape]) -> KerasModel:
    """The functional or Sequential `model` for inputs of `shapes`, without the batch axis, in the order of its inputs.

    The layers, and so the weights, are those of `model`. Nested models are made anew where their own inputs have a size
    that they would not get. Raises RefusedError, which names the layer, where one cannot take its new input.
    """
    import keras

    graph = getattr(model, "_functional", None) or model
    inputs = [_input_like(tensor, shape) for tensor, shape in zip(graph.inputs, shapes, strict=True)]
    with whole_tracebacks():
        if isinstance(model, keras.Sequential):
            layers, x = [], inputs[0]
            for layer in model.layers:
                taken = _fitting(layer, [x])
                x = _checked(layer, taken)(x)
                layers.append(taken)
            return keras.Sequential([inputs[0], *layers], name=model.name)

        def instead(operation: KerasOperation) -> Callable[..., TensorTree]:
            def call(*args: TensorTree, **kwargs: TensorTree) -> TensorTree:
                tensors = keras.tree.flatten(args[0]) if args else []
                return _checked(operation, _fitting(operation, tensors))(*args, **kwargs)

            return call

        outputs = graph._run_through_graph(inputs, operation_fn=instead, call_fn=lambda op, *a, **k: op(*a, **k))
    struct = keras.tree.pack_sequence_as(graph._inputs_struct, inputs)
    return keras.Model(struct, outputs, name=model.name)


def is_graph(operation: KerasOperation) -> bool:
    """Whether `operation` is a built functional or Sequential model that computes what its graph says."""
    import keras
    from keras.src.models.functional import Functional

    if isinstance(operation, keras.Sequential):
        return operation._functional is not None and type(operation).call is keras.Sequential.call
    return isinstance(operation, Functional) and type(operation).call is Functional.call


def accepts(own: Shape, shape: Shape) -> bool:
    """Whether an input declared with the sizes `own` (None is any) takes the sizes `shape`."""
    return len(own) == len(shape) and all(a in (None, b) for a, b in zip(own, shape, strict=True))


def _fitting(operation: KerasOperation, tensors: Sequence[KerasTensor]) -> KerasOperation:
    """`operation`, or a nested model in its place whose inputs have the shapes of `tensors`."""
    if not is_graph(operation):
        return operation
    own = [tuple(tensor.shape[1:]) for tensor in (getattr(operation, "_functional", None) or operation).inputs]
    shapes = [tuple(tensor.shape[1:]) for tensor in tensors]
    if len(own) != len(shapes) or all(map(accepts, own, shapes)):
        return operation
    return resized(operation, shapes)


def _checked(layer: KerasOperation, call: Callable[..., TensorTree]) -> Callable[..., TensorTree]:
    """`call`, the operation in the place of `layer`, with its errors as RefusedErrors that name `layer`."""

    def run(*args: TensorTree, **kwargs: TensorTree) -> TensorTree:
        try:
            return call(*args, **kwargs)
        except RefusedError:
            raise
        except Exception as error:  # the user's own layers run here and may raise anything
            reason = failed_in(error, layer)
            where = "" if reason.startswith("layer ") else f"layer {layer.name} ({type(layer).__name__}): "
            raise RefusedError(where + reason) from error

    return run


def _input_like(tensor: KerasTensor, shape: Shape) -> KerasTensor:
    import keras

    return keras.Input(
        batch_shape=(tensor.shape[0], *shape),
        dtype=tensor.dtype,
        name=tensor._keras_history.operation.name,
        optional=bool(getattr(tensor._keras_history.operation, "optional", False)),
    )
