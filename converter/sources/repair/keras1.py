"""Layers as Keras 1 wrote them (before 2017), converted to the classes and argument names of Keras 2 and 3."""

from __future__ import annotations

from collections import Counter

from converter.core.errors import InputError
from converter.core.foreign import JsonObject

CLASSES = {
    "Convolution2D": "Conv2D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
}
RENAMED = {
    "nb_filter": "filters",
    "output_dim": "units",
    "border_mode": "padding",
    "subsample": "strides",
    "atrous_rate": "dilation_rate",
    "bias": "use_bias",
    "p": "rate",
    "sigma": "stddev",
    "init": "kernel_initializer",
    "W_regularizer": "kernel_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "depthwise_init": "depthwise_initializer",
    "pointwise_init": "pointwise_initializer",
}
OF_CLASS = {
    "Conv2D": {"nb_filter", "border_mode", "subsample", "atrous_rate"},
    "SeparableConv2D": {"nb_filter", "border_mode", "subsample"},
    "Dense": {"output_dim"},
    "MaxPooling2D": {"border_mode"},
    "AveragePooling2D": {"border_mode"},
    "Dropout": {"p"},
    "SpatialDropout2D": {"p"},
    "GaussianDropout": {"p"},
    "GaussianNoise": {"sigma"},
}
COMMON = {
    "bias",
    "init",
    "W_regularizer",
    "b_regularizer",
    "W_constraint",
    "b_constraint",
    "depthwise_init",
    "pointwise_init",
}
DROPPED = ("input_dtype", "input_dim", "input_length", "create_input_layer")
MERGES = {  # by mode of Merge
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "concat": "Concatenate",
}
INITIALIZERS = {"normal": "random_normal", "uniform": "random_uniform", "zero": "zeros", "one": "ones"}


def repair_keras1(layer: JsonObject, notes: Counter[str]) -> JsonObject:
    """`layer` with the arguments of Keras 2 where it has those of Keras 1, otherwise `layer` itself.

    Raises InputError for Theano's channels-first kernels and for modes that Keras 2 removed.
    """
    inner, name = dict(layer["config"]), str(layer["class_name"])
    if name == "Merge":
        return _merge(layer, notes)
    modern = CLASSES.get(name, name)
    known = OF_CLASS.get(modern, set()) | (COMMON if modern in ("Conv2D", "SeparableConv2D", "Dense") else set())
    old = [key for key in inner if key in known]
    ordering = inner.pop("dim_ordering", None)
    mode = inner.pop("mode", 0) if modern == "BatchNormalization" else 0
    if not old and ordering is None and mode == 0 and "nb_row" not in inner:
        return layer
    notes[f"arguments of {name} from Keras 1"] += 1
    title = inner.get("name", name)
    if ordering == "th":
        raise InputError(
            f"layer {title}: its kernels are in Theano's channels-first order\n"
            "convert the model with Keras 2 first (keras.utils.convert_all_kernels_in_model)"
        )
    if mode not in (0, 2):
        raise InputError(
            f"layer {title}: BatchNormalization with mode={mode} was removed in Keras 2\ntrain again without it"
        )
    for key in DROPPED:
        inner.pop(key, None)
    for key in old:
        inner[RENAMED[key]] = inner.pop(key)
    if "nb_row" in inner:
        inner["kernel_size"] = [inner.pop("nb_row"), inner.pop("nb_col")]
    if ordering is not None:
        inner["data_format"] = "channels_last"
    for key, value in list(inner.items()):
        if key.endswith("_initializer") and isinstance(value, str):
            inner[key] = INITIALIZERS.get(value, value)
    spelled = {"class_name": modern, "module": "keras.layers", "registered_name": None}
    return layer | spelled | {"config": inner}


def _merge(layer: JsonObject, notes: Counter[str]) -> JsonObject:
    inner = layer["config"]
    mode, name = str(inner.get("mode")), inner.get("name", "merge")
    if mode not in MERGES:
        raise InputError(
            f"layer {name}: Merge with mode={mode!r} was removed in Keras 2\nrebuild the model with Keras 3"
        )
    notes["Merge of Keras 1 is now a separate layer for each mode"] += 1
    modern: JsonObject = {"name": name, "trainable": inner.get("trainable", True)}
    if mode == "concat":
        modern["axis"] = inner.get("concat_axis", -1)
    return layer | {"class_name": MERGES[mode], "module": "keras.layers", "registered_name": None, "config": modern}
