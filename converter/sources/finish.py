"""The last step for every source: check that the model is built, its weights finite and its layers named."""

from __future__ import annotations

from collections.abc import Mapping

from converter.core.data import Shape, ShapesByInput, Source
from converter.core.errors import InputError, UsageError
from converter.core.foreign import Json, KerasModel
from converter.core.text import reason_of
from converter.sources import entry, functional
from converter.sources.names import directory_name
from converter.sources.ranges import preprocessing_in
from converter.sources.spelling import shape_text, shapes_text
from converter.tracing.eager import shared_array

InputShape = Shape | ShapesByInput | None
"""The shape of the input without its batch axis, or those of several inputs; None where the user did not give one."""


def finish(
    model: KerasModel,
    name: str,
    kind: str,
    detail: Mapping[str, Json],
    *,
    input_shape: InputShape = None,
    repairs: tuple[str, ...] = (),
) -> Source:
    """`model` as a Source: built, its weights finite, its layers named.

    Raises InputError where it is not a keras.Model or fails one of these checks, UsageError where `input_shape`
    contradicts the model.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise InputError(
            f"{name}: a value of type {type(model).__name__}, not a keras.Model\nreturn a built keras.Model"
        )
    require_built(model, name, input_shape)
    model = fitted(model, name, input_shape)
    require_finite(model, name)
    for layer in model._flatten_layers(include_self=False):
        if not layer.name:  # nodes and weights are named after it; other bad names fail when Keras predicts
            raise InputError(
                f"{name}: a {type(layer).__name__} has an empty name\nname the layer, and save the model again"
            )
    return Source(
        model=model,
        name=directory_name(name),
        kind=kind,
        detail=dict(detail),
        preprocessing=preprocessing_in(model),
        repairs=repairs,
    )


def require_built(model: KerasModel, name: str, input_shape: InputShape = None) -> None:
    """Build `model` for `input_shape` (without the batch axis) where it was never built.

    Raises InputError where it cannot be built, or where neither the model nor the user says for which shape.
    """
    import keras

    if getattr(model, "inputs", None) or (model.built and entry.called(model)):
        return
    if input_shape is None:
        raise InputError(
            f"{name}: this {type(model).__name__} was never built, so its input shape is unknown\n"
            "give --input-shape HxWxC, or call the model once on real data before it is saved or returned"
        )
    try:
        if isinstance(model, keras.Sequential):
            shape = next(iter(entry.shapes_for(["input"], input_shape, name).values()))
            model.build((None, *shape))
        else:
            entry.build(model, entry.never_called(model, input_shape))
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # the user's own layers run here and may raise anything
        raise InputError(
            f"{name}: cannot be built for {shapes_text(input_shape)}: {reason_of(error)}\n"
            "give the --input-shape that the model was written for"
        ) from error


def fitted(model: KerasModel, name: str, input_shape: InputShape) -> KerasModel:
    """`model`, which is built, for inputs of `input_shape`: itself, or a functional model with the same layers.

    A subclassed model of several arguments, or one whose values are indices, becomes a functional model in any case.
    Raises UsageError, which names the layer, where the model cannot take the shape, InputError where the shape of an
    argument is unknown.
    """
    if functional.is_graph(model):
        return _resized(model, name, input_shape) if input_shape is not None else model
    own = entry.called(model)
    if getattr(model, "inputs", None) and own is None:
        return model
    arguments = _arguments(model, own, name, input_shape)
    unknown = entry.missing(model, arguments)
    if unknown:
        known = [f"{each}={shapes_text(entry.shape_of(arguments, each))}" for each in arguments]
        example = ",".join([*known, *(f"{each}=HxWxC" for each in unknown)])
        raise InputError(
            f"{name}: the shape of {', '.join(unknown)}, an argument of {type(model).__name__}.call, is unknown\n"
            f"give --input-shape {example}"
        )
    plain = own is not None and len(arguments) == 1 and entry.shapes_in(own) == entry.shapes_in(arguments)
    if plain and not entry.may_look_up(model):
        return model
    result = entry.wrapped(model, arguments, name, asked=input_shape is not None)
    return model if plain and entry.types_in(result.inputs) == entry.types_in(arguments) else result


def require_finite(model: KerasModel, name: str) -> None:
    """Raise InputError, naming the layer, where a weight holds NaN or infinity."""
    import numpy as np

    for layer in model._flatten_layers():
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            values = shared_array(variable.value)
            if values.size == 0 or values.dtype.kind in "iub":
                continue
            # minimum and maximum both propagate NaN, and need no temporary array
            if not (np.isfinite(np.float64(values.min())) and np.isfinite(np.float64(values.max()))):
                raise InputError(
                    f"{name}: layer {layer.name}: weight {variable.name} holds NaN or infinity\n"
                    "the model is damaged or its training diverged; use an earlier checkpoint"
                )


def _resized(model: KerasModel, name: str, input_shape: Shape | ShapesByInput) -> KerasModel:
    tensors = (getattr(model, "_functional", None) or model).inputs
    names = [tensor._keras_history.operation.name for tensor in tensors]
    given = entry.shapes_for(names, input_shape, name)
    own = [tuple(tensor.shape[1:]) for tensor in tensors]
    wanted = [given.get(each, shape) for each, shape in zip(names, own, strict=True)]
    if wanted == own:
        return model
    try:
        return functional.resized(model, wanted)
    except functional.RefusedError as error:
        raise UsageError(
            f"{name}: --input-shape {shapes_text(input_shape)}: {error}\n"
            f"the model was made for {', '.join(map(shape_text, own))}; leave --input-shape out, or give another one"
        ) from error


def _arguments(model: KerasModel, own: entry.Arguments | None, name: str, input_shape: InputShape) -> entry.Arguments:
    """The arguments of `model`: those that Keras knows, with the shapes of the user."""
    if own is None or (isinstance(input_shape, Mapping) and entry.missing(model, own)):
        assert input_shape is not None
        return entry.never_called(model, input_shape)
    return own if input_shape is None else entry.changed(own, input_shape, name)
