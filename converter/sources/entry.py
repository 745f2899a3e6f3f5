"""How a subclassed model is called: its arguments, their shapes and types, and a functional model around it.

Keras remembers the shapes of the first call only, not of every argument, and no types. What the model was called with
is no bound: other shapes are tried on it. A type is found by trial: Keras's own unless the model refuses it, or looks
the values up in a table.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from converter.core.data import Shape, ShapesByInput
from converter.core.errors import InputError, UsageError
from converter.core.foreign import KerasLayer, KerasModel, KerasTensor, TensorTree
from converter.sources.spelling import shape_text
from converter.tracing.blame import failed_in, whole_tracebacks
from converter.tracing.lookups import lookups
from converter.tracing.signature import describe, legal_name, recorded_shapes, symbolic

Arguments = dict[str, TensorTree]
"""The arguments of `call` as KerasTensors with a free batch axis, nested as the model takes them"""

FREE_SIZES = (32, 16, 8, 4, 2, 1)
"""Tried for an axis of any size when a model is called for the first time."""

TEXT_LAYERS = ("TextVectorization", "StringLookup", "Hashing", "HashedCrossing")

MOST_TRIED = 3
"""Inputs of which every combination of types is tried."""


def never_called(model: KerasModel, shapes: Shape | ShapesByInput) -> Arguments:
    """The arguments of a model that was never called, from the shapes that the user gave, without the batch axis.

    Names that are arguments of `call` are arguments; the names 0, 1, … are the items of a list, others the keys of a
    dict, for its first argument.
    """
    names, dtype = _tensor_arguments(model), _input_type(model)
    if not isinstance(shapes, Mapping):
        return {names[0]: symbolic((None, *shapes), dtype)}
    batches = {name: (None, *shape) for name, shape in shapes.items()}
    if set(batches) <= set(names):
        return {name: symbolic(batches[name], dtype, name) for name in names if name in batches}
    if sorted(batches) == sorted(map(str, range(len(batches)))):
        return {names[0]: symbolic([batches[str(index)] for index in range(len(batches))], dtype)}
    return {names[0]: symbolic(batches, dtype)}


def called(model: KerasModel) -> Arguments | None:
    """The arguments of a model that was called or built, as far as Keras knows them; None if it does not."""
    recorded = recorded_shapes(model)
    if recorded is None:
        return None
    names, dtype = _tensor_arguments(model), _input_type(model)
    if len(recorded) == 1 or not names:
        return {names[0] if names else "inputs": symbolic(next(iter(recorded.values())), dtype)}
    found = {key.removesuffix("_shape"): shapes for key, shapes in recorded.items()}
    return {name: symbolic(found[name], dtype, name) for name in names if name in found}


def changed(own: Arguments, shapes: Shape | ShapesByInput, title: str) -> Arguments:
    """`own` with the shapes that the user gave. Raises UsageError where they do not say which input they are for."""
    import keras

    flat = keras.tree.flatten(own)
    given = shapes_for([tensor.name for tensor in flat], shapes, title)
    new = [
        keras.KerasTensor((None, *given[tensor.name]), dtype=tensor.dtype, name=tensor.name)
        if tensor.name in given
        else tensor
        for tensor in flat
    ]
    result: Arguments = keras.tree.pack_sequence_as(own, new)
    return result


def shapes_for(names: Sequence[str], shapes: Shape | ShapesByInput, title: str) -> dict[str, Shape]:
    """The given shapes by the name of the input, `names` being all inputs; 0, 1, … are the inputs in their order.

    Raises UsageError for a name that no input has, and for one shape where there are several inputs.
    """
    if isinstance(shapes, Mapping):
        if sorted(shapes) == sorted(map(str, range(len(names)))):
            return {name: shapes[str(index)] for index, name in enumerate(names)}
        for name in shapes:
            if name not in names:
                raise UsageError(
                    f"{title}: --input-shape: no input is called {name!r}\nthe inputs are {', '.join(names)}"
                )
        return dict(shapes)
    if len(names) != 1:
        example = ",".join(f"{name}=HxWxC" for name in names)
        raise UsageError(
            f"{title}: --input-shape {shape_text(shapes)}: the model has {len(names)} inputs\nname each: {example}"
        )
    return {names[0]: shapes}


def missing(model: KerasModel, given: Arguments) -> list[str]:
    """The arguments of `call` without a default that are not in `given`."""
    parameters = inspect.signature(model.call).parameters
    empty = inspect.Parameter.empty
    return [name for name in _tensor_arguments(model) if parameters[name].default is empty and name not in given]


def shape_of(arguments: Arguments, name: str) -> Shape | ShapesByInput:
    """The shape of the argument `name` without the batch axis, or the shapes of what is nested in it, by name."""
    import keras

    flat = keras.tree.flatten(arguments[name])
    if len(flat) == 1:
        return tuple(flat[0].shape[1:])
    return {tensor.name: tuple(tensor.shape[1:]) for tensor in flat}


def shapes_in(tensors: TensorTree) -> list[tuple[int | None, ...]]:
    """The shape of each tensor, in Keras's order."""
    import keras

    return [tuple(tensor.shape) for tensor in keras.tree.flatten(tensors)]


def types_in(tensors: TensorTree) -> list[str]:
    """The type of each tensor, in Keras's order."""
    import keras

    return [str(tensor.dtype) for tensor in keras.tree.flatten(tensors)]


def may_look_up(model: KerasModel) -> bool:
    """Whether a layer of `model` takes indices or text, so that the type of its inputs has to be found out."""
    import keras

    layers = list(model._flatten_layers())
    return bool(text_layers(model)) or any(isinstance(layer, keras.layers.Embedding) for layer in layers)


def text_layers(model: KerasModel) -> list[KerasLayer]:
    """The layers of `model` that take text, or may take it."""
    return [layer for layer in model._flatten_layers() if type(layer).__name__ in TEXT_LAYERS]


def build(model: KerasModel, arguments: Arguments) -> None:
    """Call `model` once on zeros, so that its layers are built. Raises what the model raises.

    Where any size is asked for, smaller ones follow: a table of positions bounds the length of a sequence.
    """
    import keras

    free = any(None in tensor.shape[1:] for tensor in keras.tree.flatten(arguments))
    first: Exception | None = None
    for size in FREE_SIZES if free else FREE_SIZES[:1]:
        try:
            _call(model, keras.tree.map_structure(partial(_zeros, size=size), arguments))
        except Exception as error:  # noqa: BLE001  the user's own layers run here and may raise anything
            first = first or error
        else:
            return
    assert first is not None
    raise first


def _zeros(tensor: KerasTensor, size: int) -> TensorTree:
    import keras

    return keras.ops.zeros((1, *(each or size for each in tensor.shape[1:])), tensor.dtype)


def wrapped(model: KerasModel, arguments: Arguments, title: str, *, asked: bool) -> KerasModel:
    """A functional model of the same name that calls the subclassed `model`, which is built, with `arguments`.

    Of one argument it takes what `model` takes, of several a dict of them. Where the model takes no such inputs, raises
    an error that names the layer: UsageError if the user `asked` for the shapes, else InputError.
    """
    first: Exception | None = None
    with whole_tracebacks():
        for types in _types(model, arguments):
            try:
                result = _around(model, arguments, types)
            except Exception as error:  # noqa: BLE001  the user's own layers run here and may raise anything
                first = first or error
                continue
            found = lookups(result, describe(result))
            if not any(each.only and "float" in dtype for each, dtype in zip(found, types, strict=False)):
                return result
            indices = ["int32" if each.only else dtype for each, dtype in zip(found, types, strict=True)]
            return _around(model, arguments, indices)
    assert first is not None
    raise (UsageError if asked else InputError)(
        f"{title}: cannot be called with {_text(arguments)}: {failed_in(first, model)}\n"
        "give --input-shape a shape that the model takes"
    ) from first


def _types(model: KerasModel, arguments: Arguments) -> Iterator[tuple[str, ...]]:
    """The types to try, one for each input: their own first, but text where a layer takes text alone.

    TensorFlow traces a cast of numbers to text, and fails when it runs it.
    """
    own = types_in(arguments)
    text = any(type(layer).__name__ in TEXT_LAYERS[:2] for layer in text_layers(model))
    kinds = [("string", dtype, "int32") if text else (dtype, "int32", "string") for dtype in own]
    return zip(*kinds, strict=True) if len(own) > MOST_TRIED else itertools.product(*kinds)


def _around(model: KerasModel, arguments: Arguments, types: Sequence[str]) -> KerasModel:
    import keras

    flat, taken = keras.tree.flatten(arguments), set()
    inputs = []
    for tensor, dtype in zip(flat, types, strict=True):
        name = legal_name(tensor.name)
        name = next(each for each in (name, *(f"{name}_{n}" for n in range(2, len(flat) + 2))) if each not in taken)
        taken.add(name)
        inputs.append(keras.Input(tensor.shape[1:], dtype=dtype, name=name))
    struct = keras.tree.pack_sequence_as(arguments, inputs)
    outputs = _call(model, struct)
    return keras.Model(struct if len(struct) > 1 else next(iter(struct.values())), outputs, name=model.name)


def _call(model: KerasModel, values: Mapping[str, TensorTree]) -> TensorTree:
    """What `model` returns for `values`, the first of the arguments of `call` by position, the others by name."""
    first = next(name for name in _tensor_arguments(model) if name in values)
    return model(values[first], **{name: value for name, value in values.items() if name != first}, training=False)


def _tensor_arguments(model: KerasModel) -> list[str]:
    """The arguments of `model.call` that may be tensors, in their order."""
    parameters = inspect.signature(model.call).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = [each.name for each in parameters if each.kind in kinds and each.name not in ("training", "mask")]
    return found or ["inputs"]


def _input_type(model: KerasModel) -> str:
    return getattr(model, "input_dtype", "float32") or "float32"


def _text(arguments: Arguments) -> str:
    import keras

    return ", ".join(f"{tensor.name}={shape_text(tensor.shape[1:])}" for tensor in keras.tree.flatten(arguments))
