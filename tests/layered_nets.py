"""Three small models whose layers a diagnosis must distinguish: a chain, residual blocks, branches; and faults."""

NETS = """
import keras
from keras import layers

from converter.core.samples import generate
from converter.tracing.signature import describe
from zoo.calibrate import calibrate


def _normalized(x, filters, name, size=3, relu=True, **options):
    x = layers.Conv2D(filters, size, padding="same", use_bias=False, name=name, **options)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _finished(image, x, name):
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(6, activation="softmax", name="head")(x), name=name)
    calibrate(model, generate(describe(model).inputs, 8, 0)["image"], 0)
    return model


def plain():
    image = keras.Input((32, 32, 3), name="image")
    x = _normalized(image, 16, "one")
    x = _normalized(x, 16, "two")
    x = _normalized(x, 16, "three")
    x = layers.MaxPooling2D(name="shrink")(x)
    x = layers.Conv2D(24, 3, activation="relu", name="four")(x)
    return _finished(image, x, "plain")


def residual():
    image = keras.Input((32, 32, 3), name="image")
    x = _normalized(image, 32, "stem", strides=2)
    for block in ("early", "late"):
        y = _normalized(x, 16, f"{block}_reduce", size=1)
        y = _normalized(y, 16, f"{block}_grouped", groups=4)
        y = _normalized(y, 32, f"{block}_expand", size=1, relu=False)
        x = layers.ReLU(name=f"{block}_relu")(layers.Add(name=f"{block}_add")([x, y]))
    return _finished(image, x, "residual")


def branches():
    image = keras.Input((32, 32, 3), name="image")
    x = _normalized(image, 16, "stem", strides=2)
    left = layers.SeparableConv2D(16, 3, padding="same", name="separable")(x)
    middle = _normalized(x, 16, "middle")
    right = layers.Conv2D(16, 5, padding="same", activation="relu", name="right")(layers.AveragePooling2D(
        3, 1, padding="same", name="blur")(x))
    x = layers.Concatenate(name="joined")([left, middle, right])
    x = _normalized(x, 16, "after")
    return _finished(image, x, "branches")
"""

PLANTED = [
    ("plain", "two", "scaled", ("two",)),
    ("plain", "three", "zeroed_filter", ("three",)),
    ("plain", "two", "exchanged", ("two", "three", 2)),
    ("plain", "four", "turned", ("four",)),
    ("plain", "three", "shifted", ("three",)),
    ("residual", "late_grouped", "scaled", ("late_grouped",)),
    ("residual", "early_expand", "zeroed_filter", ("early_expand",)),
    ("residual", "early_reduce", "exchanged", ("early_reduce", "late_reduce", 1, 2)),
    ("residual", "early_grouped", "turned", ("early_grouped",)),
    ("residual", "late_grouped", "shifted", ("late_grouped",)),
    ("branches", "middle", "scaled", ("middle",)),
    ("branches", "right", "zeroed_filter", ("right",)),
    ("branches", "middle", "exchanged", ("middle", "after", 2)),
    ("branches", "right", "turned", ("right",)),
    ("branches", "after", "shifted", ("after",)),
]
"""What every format is tested with: the model, the layer to be named, the kind of fault and what it is given."""
