"""What goes into a Keras model and comes out of it: flat, named tensors in a fixed order.

Keras lets inputs and outputs be a tensor, a list or a dict, nested; everything after this module sees only the flat
list, under names that every format can hold. How the model is traced lives in `converter/trace.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from converter.core.data import TensorSpec
from converter.core.errors import InputError
from converter.core.text import reason_of
from converter.tracing.widening import HALVES

_ILLEGAL = re.compile(r"[^A-Za-z0-9_.\-]")


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a model in call order; `call` runs the model on flat tensors and returns flat outputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: Mapping[str, str]
    pack: Callable[[list[Any]], Any]

    def call(self, model: Any, tensors: list[Any]) -> list[Any]:
        """Run `model` for inference on `tensors` (one for each input); outputs in the order of `outputs`."""
        import keras

        return list(keras.tree.flatten(model(self.pack(tensors), training=False)))

    def with_batch(self, batch: int | None) -> Signature:
        """The same signature with the batch axis of every input and output set to `batch`."""

        def fixed(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
            return tuple(replace(spec, shape=(batch, *spec.shape[1:])) if spec.shape else spec for spec in specs)

        return replace(self, inputs=fixed(self.inputs), outputs=fixed(self.outputs))


def legal_name(name: str) -> str:
    """`name` with every character that TensorFlow refuses in a node name turned into an underscore."""
    clean = _ILLEGAL.sub("_", name)
    return clean if clean[:1].isalnum() else f"t{clean or '_'}"


def _unique(names: Sequence[str], taken: set[str]) -> list[str]:
    result = []
    for name in names:
        candidate, count = legal_name(name), 1
        while candidate in taken:
            count += 1
            candidate = f"{legal_name(name)}_{count}"
        taken.add(candidate)
        result.append(candidate)
    return result


def _layout(shape: Sequence[int | None]) -> str:
    import keras

    if len(shape) != 4:
        return ""
    return "nhwc" if keras.config.image_data_format() == "channels_last" else "nchw"


def layer_classes(model: Any) -> dict[str, str]:
    """The class of each layer of `model` by the layer's name, those of models inside included."""
    flatten = getattr(model, "_flatten_layers", None)
    layers = flatten(include_self=False, recursive=True) if flatten else getattr(model, "layers", [])
    return {layer.name: type(layer).__name__ for layer in layers}


def describe(model: Any, input_shapes: Any = None) -> Signature:
    """The signature of a built Keras model.

    `input_shapes` (a structure of shapes with the batch axis) is needed for a subclassed model that was never called.
    Raises InputError where neither the model nor the caller tells the input shapes.
    """
    import keras

    struct = _input_struct(model, input_shapes)
    flat = keras.tree.flatten(struct)
    try:
        outputs = model.compute_output_spec(struct) if not _functional(model) else _graph(model).output
    except Exception as error:  # the user's own layers run here and may raise anything
        raise InputError(f"{model.name}: Keras cannot tell what the model returns: {reason_of(error)}") from error
    taken: set[str] = set()
    input_names = _unique([_input_name(tensor, index) for index, tensor in enumerate(flat)], taken)
    output_names = _unique(_output_names(model, outputs), taken)

    def spec(name: str, tensor: Any, image: bool) -> TensorSpec:
        shape = tuple(None if size is None else int(size) for size in tensor.shape)
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        dtype = "float32" if dtype in HALVES else dtype  # artifacts compute in float32
        return TensorSpec(name, shape, dtype, _layout(shape) if image else "")

    return Signature(
        inputs=tuple(spec(name, tensor, True) for name, tensor in zip(input_names, flat, strict=True)),
        outputs=tuple(
            spec(name, tensor, len(tensor.shape) == 4)
            for name, tensor in zip(output_names, keras.tree.flatten(outputs), strict=True)
        ),
        layers=layer_classes(model),
        pack=lambda tensors: keras.tree.pack_sequence_as(struct, tensors),
    )


def _functional(model: Any) -> bool:
    return bool(getattr(model, "inputs", None)) and bool(getattr(model, "outputs", None))


def _graph(model: Any) -> Any:
    """The functional model that holds inputs and outputs: a Sequential keeps one inside, called or not."""
    return getattr(model, "_functional", None) or model


def _input_struct(model: Any, input_shapes: Any) -> Any:
    import keras

    if _functional(model) and input_shapes is None:
        return _graph(model).input
    shapes = input_shapes
    if shapes is None:
        shapes = (getattr(model, "_build_shapes_dict", None) or {}).get("input_shape")
    if shapes is None:
        raise InputError(
            f"{model.name}: this {type(model).__name__} was never built, so its input shape is unknown\n"
            "call it once on real data, or give --input-shape"
        )
    dtype = getattr(model, "input_dtype", "float32") or "float32"
    if isinstance(shapes, dict):
        return {key: keras.KerasTensor((None, *shape[1:]), dtype=dtype, name=str(key)) for key, shape in shapes.items()}
    if shapes and isinstance(shapes[0], (list, tuple)):
        return [
            keras.KerasTensor((None, *shape[1:]), dtype=dtype, name=f"input_{index}")
            for index, shape in enumerate(shapes)
        ]
    return keras.KerasTensor((None, *shapes[1:]), dtype=dtype, name="input")


def _input_name(tensor: Any, index: int) -> str:
    history = getattr(tensor, "_keras_history", None)
    return str(history.operation.name if history else getattr(tensor, "name", "") or f"input_{index}")


def _output_names(model: Any, outputs: Any) -> list[str]:
    import keras

    names = []
    for index, (path, tensor) in enumerate(keras.tree.flatten_with_path(outputs)):
        history = getattr(tensor, "_keras_history", None)
        if path and isinstance(path[-1], str):
            names.append(path[-1])
        elif history is not None:
            names.append(history.operation.name)
        else:
            names.append("output" if index == 0 and not path else f"output_{index}")
    return names
