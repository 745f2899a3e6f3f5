"""What goes into a Keras model and comes out of it: flat, named tensors in a fixed order.

Keras lets inputs and outputs be a tensor, a list or a dict, nested; everything after this module has only the flat
list, under names that every format accepts. Tracing is in `converter.tracing.trace`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.core.data import Interface, TensorSpec
from converter.core.errors import InputError
from converter.core.foreign import KerasModel, KerasOperation, KerasTensor, Tensor, TensorTree
from converter.core.text import reason_of
from converter.tracing.widening import OTHERS

_ILLEGAL = re.compile(r"[^A-Za-z0-9_.\-]")


@dataclass(frozen=True)
class Signature:
    """A model's interface, its layers (class by name), and how Keras nests the inputs.

    `pack` turns flat tensors, one for each input in their order, into what the model takes.
    """

    interface: Interface
    layers: Mapping[str, str]
    pack: Callable[[Sequence[Tensor]], TensorTree]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs in call order."""
        return self.interface.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs in call order."""
        return self.interface.outputs

    def call(self, model: KerasModel, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Run `model` for inference on `tensors`, one for each input; returns one tensor for each output."""
        import keras

        return list(keras.tree.flatten(model(self.pack(tensors), training=False)))

    def with_batch(self, batch: int | None) -> Signature:
        """The same signature with the batch axis of every input and output set to `batch`; None is dynamic."""

        def fixed(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
            return tuple(replace(spec, shape=(batch, *spec.shape[1:])) if spec.shape else spec for spec in specs)

        return replace(self, interface=Interface(fixed(self.inputs), fixed(self.outputs)))


def describe(model: KerasModel, input_shapes: TensorTree | None = None) -> Signature:
    """The signature of a built Keras model.

    `input_shapes` (a structure of shapes with the batch axis) is needed for a subclassed model that was never called.
    Raises InputError where the input shapes are unknown, and where the model's own code fails.
    """
    import keras

    struct = _input_struct(model, input_shapes)
    flat = keras.tree.flatten(struct)
    try:
        outputs = model.compute_output_spec(struct) if not _functional(model) else _graph(model).output
    except Exception as error:  # the user's own layers run here and may raise anything
        raise InputError(
            f"{model.name}: Keras cannot compute the shapes of the model's outputs: {reason_of(error)}"
        ) from error
    taken: set[str] = set()
    input_names = _unique([_input_name(tensor, index) for index, tensor in enumerate(flat)], taken)
    output_names = _unique(_output_names(outputs, model.name), taken)
    interface = Interface(
        inputs=tuple(_spec(name, tensor) for name, tensor in zip(input_names, flat, strict=True)),
        outputs=tuple(
            _spec(name, tensor) for name, tensor in zip(output_names, keras.tree.flatten(outputs), strict=True)
        ),
    )
    return Signature(
        interface,
        layer_classes(model),
        lambda tensors: keras.tree.pack_sequence_as(struct, [*map(_as_tensor, tensors)]),
    )


def _as_tensor(value: Tensor) -> Tensor:
    """`value`; text, which Keras does not take from numpy, as a tensor."""
    import tensorflow as tf

    return tf.constant(value) if isinstance(value, np.ndarray) and value.dtype.kind == "S" else value


def layer_classes(model: KerasModel) -> dict[str, str]:
    """The class of each layer of `model` by the layer's name, including the layers of nested models."""
    flatten = getattr(model, "_flatten_layers", None)
    layers = flatten(include_self=False, recursive=True) if flatten else getattr(model, "layers", [])
    return {legal_name(layer.name): type(layer).__name__ for layer in layers}


def legal_name(name: str) -> str:
    """`name` with an underscore for every character that TensorFlow refuses in a node name."""
    clean = _ILLEGAL.sub("_", name)
    if clean == "self":  # no function that TensorFlow loads takes it by name
        return "self_"
    return clean if clean[:1].isalnum() else f"t{clean or '_'}"


def legal_path(path: str) -> str:
    """The path of a variable, each part of it legal."""
    return "/".join(map(legal_name, path.split("/")))


def _unique(names: Sequence[str], taken: set[str]) -> list[str]:
    """`names` as legal names that differ from each other and from `taken`, which grows by them."""
    result = []
    for name in names:
        candidate, count = legal_name(name), 1
        while candidate.lower() in taken:  # TensorFlow's graphs do not tell upper from lower case
            count += 1
            candidate = f"{legal_name(name)}_{count}"
        taken.add(candidate.lower())
        result.append(candidate)
    return result


def _spec(name: str, tensor: KerasTensor) -> TensorSpec:
    import keras

    shape = tuple(None if size is None else int(size) for size in tensor.shape)
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    dtype = "float32" if dtype in OTHERS else dtype  # artifacts compute in float32
    return TensorSpec(name, shape, dtype, _layout(shape))


def _layout(shape: Sequence[int | None]) -> str:
    import keras

    if len(shape) != 4:
        return ""
    return "nhwc" if keras.config.image_data_format() == "channels_last" else "nchw"


def _functional(model: KerasModel) -> bool:
    return bool(getattr(model, "inputs", None)) and bool(getattr(model, "outputs", None))


def _graph(model: KerasModel) -> KerasModel:
    """The functional model that holds inputs and outputs: a Sequential has one inside, even before it is called."""
    return getattr(model, "_functional", None) or model


def recorded_shapes(model: KerasModel) -> dict[str, TensorTree] | None:
    """The shapes that a subclassed `model` was built for, by the argument of `build`; None if it was not built."""
    recorded = getattr(model, "_build_shapes_dict", None)
    known = {name: shapes for name, shapes in (recorded or {}).items() if shapes is not None}
    return known or None


def symbolic(shapes: TensorTree, dtype: str, name: str = "input") -> TensorTree:
    """`shapes`, each with the batch axis and nested in any way, as KerasTensors with a free batch axis.

    A tensor is named after its key, or its key and its place in a list: "left", "frames_0"; without one, after `name`.
    """
    import keras

    def made(tree: TensorTree, path: tuple[str | int, ...]) -> TensorTree:
        if isinstance(tree, Mapping):
            return {key: made(each, (*path, key)) for key, each in tree.items()}
        if isinstance(tree, list | tuple) and not all(size is None or isinstance(size, int) for size in tree):
            return type(tree)([made(each, (*path, index)) for index, each in enumerate(tree)])
        return keras.KerasTensor((None, *tree[1:]), dtype=dtype, name=_path_name(path, name))

    return made(shapes, ())


def _path_name(path: Sequence[str | int], name: str) -> str:
    """The innermost key of `path` and the numbers after it, else `name` and the numbers."""
    numbers = list(itertools.takewhile(lambda each: isinstance(each, int), reversed(path)))[::-1]
    keys = path[: len(path) - len(numbers)]
    return "_".join(map(str, (keys[-1] if keys else name, *numbers)))


def _input_struct(model: KerasModel, input_shapes: TensorTree | None) -> TensorTree:
    """The model's inputs as KerasTensors, nested as the model takes them."""
    if _functional(model) and input_shapes is None:
        return _graph(model).input
    shapes = input_shapes
    if shapes is None:
        shapes = next(iter((recorded_shapes(model) or {}).values()), None)
    if shapes is None:
        raise InputError(
            f"{model.name}: this {type(model).__name__} was never built, so its input shape is unknown\n"
            "call it once on real data, or give --input-shape"
        )
    return symbolic(shapes, getattr(model, "input_dtype", "float32") or "float32")


def _input_name(tensor: KerasTensor, index: int) -> str:
    history = getattr(tensor, "_keras_history", None)
    return str(history.operation.name if history else getattr(tensor, "name", "") or f"input_{index}")


def _output_names(outputs: TensorTree, model_name: str) -> list[str]:
    """Each output's key in a dict, else its layer's name, else a number: of a subclassed model, and of the model around
    one, which has its name."""
    import keras

    names = []
    for index, (path, tensor) in enumerate(keras.tree.flatten_with_path(outputs)):
        history = getattr(tensor, "_keras_history", None)
        if path and isinstance(path[-1], str):
            names.append(path[-1])
        elif history is not None and not _is_inside(history.operation, model_name):
            names.append(history.operation.name)
        else:
            names.append("output" if index == 0 and not path else f"output_{index}")
    return names


def _is_inside(operation: KerasOperation, model_name: str) -> bool:
    """Whether `operation` is the model in a functional model that has its name and was made around it."""
    import keras

    return isinstance(operation, keras.Model) and operation.name == model_name
