"""The last step for every source: check that the model is built, its weights finite and its layers named."""

from __future__ import annotations

from collections.abc import Mapping

from converter.core.data import Source
from converter.core.errors import InputError, UsageError
from converter.core.foreign import Json, KerasModel
from converter.core.text import reason_of
from converter.sources.names import directory_name
from converter.sources.ranges import preprocessing_in

InputShape = tuple[int | None, ...] | None
"""The shape of an input without its batch axis; None where the user did not give one."""


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

    A functional model is always built, and a subclassed one once it was called on data; a different `input_shape` then
    raises UsageError. Raises InputError where the model cannot be built.
    """
    if _knows_its_inputs(model):
        if input_shape is not None and not _agrees(model, tuple(input_shape)):
            raise UsageError(
                f"{name}: --input-shape {_text(input_shape)} contradicts the model's own {_text(_own_shape(model))}\n"
                "leave --input-shape out, or build the model for that size"
            )
        return
    if input_shape is None:
        raise InputError(
            f"{name}: this {type(model).__name__} was never built, so its input shape is unknown\n"
            "give --input-shape HxWxC, or call the model once on real data before it is saved or returned"
        )
    import keras

    shape = (1, *(size or 32 for size in input_shape))
    try:
        if isinstance(model, keras.Sequential):
            model.build((None, *input_shape))
        else:
            model(keras.ops.zeros(shape), training=False)
            model._build_shapes_dict = {"input_shape": (None, *input_shape)}
    except (Exception, SystemExit) as error:  # the user's own layers run here and may raise anything
        raise InputError(
            f"{name}: cannot be built for {_text(input_shape)}: {reason_of(error)}\n"
            "give the --input-shape that the model was written for"
        ) from error
    if not _knows_its_inputs(model):
        raise InputError(f"{name}: has no input shape even after it was called\nreturn a functional keras.Model")


def require_finite(model: KerasModel, name: str) -> None:
    """Raise InputError, naming the layer, where a weight holds NaN or infinity."""
    import keras
    import numpy as np

    for layer in model._flatten_layers():
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            values = keras.ops.convert_to_numpy(variable)
            if values.size == 0 or values.dtype.kind in "iub":
                continue
            # minimum and maximum both propagate NaN, and need no temporary array
            if not (np.isfinite(np.float64(values.min())) and np.isfinite(np.float64(values.max()))):
                raise InputError(
                    f"{name}: layer {layer.name}: weight {variable.name} holds NaN or infinity\n"
                    "the model is damaged or its training diverged; use an earlier checkpoint"
                )


def _knows_its_inputs(model: KerasModel) -> bool:
    if getattr(model, "inputs", None):
        return True
    return bool(model.built and (getattr(model, "_build_shapes_dict", None) or {}).get("input_shape"))


def _own_shape(model: KerasModel) -> tuple[int | None, ...]:
    inputs = getattr(model, "inputs", None)
    if inputs:
        return tuple(inputs[0].shape[1:])
    shape = model._build_shapes_dict["input_shape"]
    return tuple(shape[1:]) if all(size is None or isinstance(size, int) for size in shape) else ()


def _agrees(model: KerasModel, shape: tuple[int | None, ...]) -> bool:
    own = _own_shape(model)
    return len(own) == len(shape) and all(a in (None, b) for a, b in zip(own, shape, strict=True))


def _text(shape: tuple[int | None, ...]) -> str:
    return "x".join("any" if size is None else str(size) for size in shape)
