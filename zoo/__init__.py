"""The zoo: classic CNN architectures as functional Keras models, one per file.

`MODELS` is the only list of them. Reading it imports neither Keras, TensorFlow nor numpy; `MODELS[name].build()` does.
"""

from __future__ import annotations

from zoo.spec import ModelSpec, Preprocessing, PublishedWeights

__all__ = ["MODELS", "ModelSpec", "PublishedWeights"]


def _unit_range(channels: str) -> Preprocessing:
    """Pixels divided by 255: values in [0, 1]."""
    return {
        "range": [0.0, 1.0],
        "channels": channels,
        "scale": 1.0 / 255.0,
        "mean": [0.0] * (1 if channels == "gray" else 3),
        "description": "pixels / 255",
    }


_CAFFE: Preprocessing = {
    "range": [-123.68, 151.061],
    "channels": "bgr",
    "scale": 1.0,
    "mean": [103.939, 116.779, 123.68],
    "description": "pixels in BGR order minus the ImageNet mean of each channel (Caffe style)",
}
_SYMMETRIC: Preprocessing = {
    "range": [-1.0, 1.0],
    "channels": "rgb",
    "scale": 1.0 / 127.5,
    "mean": [1.0, 1.0, 1.0],
    "description": "pixels / 127.5 - 1",
}

_SPECS = (
    ModelSpec(
        name="resnext50",
        module="zoo.resnext50",
        input_shape=(224, 224, 3),
        classes=4,
        parameters=23_056_388,
        outputs=("predictions",),
        preprocessing=_unit_range("rgb"),
        summary="ResNeXt-50 32x4d with grouped convolutions (Xie et al., 2017)",
        min_size=1,
        layers=177,
    ),
    ModelSpec(
        name="resnext50-lambda",
        module="zoo.resnext50_lambda",
        input_shape=(224, 224, 3),
        classes=4,
        parameters=23_056_388,
        outputs=("predictions",),
        preprocessing=_unit_range("rgb"),
        summary="the same ResNeXt-50, its groups written as Lambda slices and concatenations",
        min_size=1,
        layers=1201,
    ),
    ModelSpec(
        name="resnet50",
        module="zoo.resnet50",
        input_shape=(224, 224, 3),
        classes=1000,
        parameters=25_636_712,
        outputs=("predictions",),
        preprocessing=_CAFFE,
        summary="ResNet-50 v1 with the layer names of its public weights (He et al., 2015)",
        min_size=197,
        published=PublishedWeights(
            url="https://github.com/fchollet/deep-learning-models/releases/download/v0.2/"
            "resnet50_weights_tf_dim_ordering_tf_kernels.h5",
            filename="resnet50_weights_tf_dim_ordering_tf_kernels.h5",
            md5="a7b3fe01876f51b976af0dea6bc144eb",
        ),
    ),
    ModelSpec(
        name="resnet18",
        module="zoo.resnet18",
        input_shape=(224, 224, 1),
        classes=10,
        parameters=11_186_186,
        outputs=("predictions",),
        preprocessing=_unit_range("gray"),
        summary="ResNet-18 for one-channel images (He et al., 2015)",
        min_size=1,
        non_trainable=7_808,
    ),
    ModelSpec(
        name="alexnet",
        module="zoo.alexnet",
        input_shape=(227, 227, 1),
        classes=10,
        parameters=58_299_082,
        outputs=("predictions",),
        preprocessing=_unit_range("gray"),
        summary="AlexNet without groups for one-channel images (Krizhevsky et al., 2012)",
        min_size=67,
    ),
    ModelSpec(
        name="vgg16",
        module="zoo.vgg16",
        input_shape=(224, 224, 1),
        classes=10,
        parameters=134_300_362,
        outputs=("predictions",),
        preprocessing=_unit_range("gray"),
        summary="VGG-16 for one-channel images (Simonyan & Zisserman, 2014)",
        min_size=32,
    ),
    ModelSpec(
        name="googlenet",
        module="zoo.googlenet",
        input_shape=(224, 224, 3),
        classes=10,
        parameters=12_693_326,
        outputs=("main", "aux1", "aux2"),
        preprocessing=_unit_range("rgb"),
        summary="GoogLeNet with both auxiliary heads: three outputs (Szegedy et al., 2014)",
        min_size=1,
    ),
    ModelSpec(
        name="xception",
        module="zoo.xception",
        input_shape=(299, 299, 3),
        classes=1000,
        parameters=22_910_480,
        outputs=("predictions",),
        preprocessing=_SYMMETRIC,
        summary="Xception: depthwise separable convolutions (Chollet, 2017)",
        min_size=7,
        non_trainable=54_528,
        published=PublishedWeights(
            url="https://storage.googleapis.com/tensorflow/keras-applications/xception/"
            "xception_weights_tf_dim_ordering_tf_kernels.h5",
            filename="xception_weights_tf_dim_ordering_tf_kernels.h5",
            md5="0a58e3b7378bc2990ea3b43d5981f1f6",
        ),
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}
