"""What `verdicts.py` checks: the exports, the wrong artifacts made from them, and the correct ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import faults
import graph_faults
import sequence_faults
import size_faults
from faults import Change

from converter.core.foreign import Given

TINY, SMALL, MEDIUM = (32, 32, 3), (64, 64, 3), (96, 96, 3)


@dataclass(frozen=True)
class Base:
    """An export: a source's text, or the name of a function of a module in `verdict_models.MODULES` that builds it.

    While the model is traced, every output is multiplied by `traced_factor`; any other than 1 is a fault of all files.
    """

    source: str = ""
    build: str = ""
    input_shape: tuple[int, ...] = SMALL
    traced_factor: float = 1.0
    limit: int = 600  # seconds
    formats: tuple[str, ...] = ("onnx",)
    source_options: Given = field(default_factory=dict)
    write_options: Given = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One artifact to check: a `change` to the ONNX file of `base`, another export's file instead of it, or neither."""

    base: str
    text: str
    runtime: str = "onnxruntime"
    change: Change | None = None
    file_of: str = ""

    @property
    def faulty(self) -> bool:
        return self.planted or BASES[self.base].traced_factor != 1.0

    @property
    def planted(self) -> bool:
        """Whether the fault is made in a copy of the export."""
        return self.change is not None or bool(self.file_of)


BASES: dict[str, Base] = {
    "resnet18": Base("resnet18"),
    "resnext50": Base("resnext50", formats=("onnx", "tflite")),
    "googlenet": Base("googlenet"),
    "MobileNetV2": Base("keras:MobileNetV2", input_shape=MEDIUM),
    "xception": Base("xception", input_shape=MEDIUM, formats=("onnx", "saved-model")),
    "unet": Base(build="unet_classes"),
    "DenseNet121": Base("keras:DenseNet121"),
    "resnet18-opset13": Base("resnet18", source_options={"seed": 1}, write_options={"opset": 13}),
    "resnext50-opset18": Base("resnext50", source_options={"seed": 2}, write_options={"opset": 18}),
    "MobileNetV2-nchw": Base("keras:MobileNetV2", input_shape=MEDIUM, write_options={"layout": "nchw"}),
    "googlenet-batch3": Base("googlenet", source_options={"seed": 3}, write_options={"batch": 3}),
    "resnet18-logits": Base("resnet18", source_options={"logits": True}),
    "EfficientNetB0-features": Base("keras:EfficientNetB0", source_options={"kwargs": {"include_top": False}}),
    "unet-depth": Base(build="unet_depth"),
    "trained": Base(build="trained"),
    "trained-epsilon": Base(build="trained_epsilon"),
}

BUILT = {
    "pooling-only": (), "padding-and-cropping": (), "dot-product": (), "attention-of-two": (), "channels-first": (),
    "channels-first-normalized": (), "tokens-conv1d": ("onnx", "tflite"), "tokens-bytes": (), "one-hot": (),
    "counted-categories": (), "lookup": (), "two-integers": (), "bytes-rescaled": (), "depthwise": (),
    "separable": (), "transposed-convolution": ("onnx", "tflite"), "convolution-1d": (),
    "convolution-3d": ("onnx", "saved-model"), "subclassed": (), "nested": (), "shared": (), "siamese": (),
    "image-and-facts": (), "dict-outputs": (), "scalar": (), "leaky": (), "self-attention": ("onnx", "saved-model"),
    "squeeze-excite": (), "residual": (), "untrained-efficientnet": (), "untrained-mobilenet": (), "standardized": (),
    "group-normalized": ("onnx", "tflite"), "layer-normalized": (), "unit-normalized": (),
    "detector": ("onnx", "tflite"), "untrained-detector": (), "untrained-sigmoids": (), "untrained-unet": (),
    "activations": (), "dead-relu": (), "nearly-constant": (), "saturated": (), "exponential": (),
    "large-logits": (), "argmax": (), "scores-and-argmax": (), "threshold": (), "glu": (),
    "mixed-float16": ("onnx", "tflite"), "mixed-bfloat16": (), "feature-map": (), "two-scales": (), "plain-logits": (),
    "twin-channels": (), "any-size-map": (), "any-size-bilinear": (), "any-size-classes": (),
    "any-size-group-normalized": ("onnx", "saved-model"),
    "bilinear-2": (), "bilinear-3": ("onnx", "tflite"),
    "crnn": ("onnx", "tflite"), "tagger": ("onnx", "tflite"), "translator": ("onnx", "tflite", "saved-model"),
    "video-predictor": ("onnx", "tflite"), "relu-gru": (), "stacked-cells": ("onnx", "tflite"),
}  # fmt: skip
"""The small models: the name, which is that of the function, and the formats if there are others than ONNX."""

BASES |= {name: Base(build=name.replace("-", "_"), formats=formats or ("onnx",)) for name, formats in BUILT.items()}
BASES |= {
    "plain-logits-batch1": Base(build="plain_logits", write_options={"batch": 1}),
    "plain-logits-batch4": Base(build="plain_logits", write_options={"batch": 4}),
    "plain-logits-traced": Base(build="plain_logits", traced_factor=1 + 9e-5),
    "feature-map-traced": Base(build="feature_map", traced_factor=1 + 2e-5),
    "MobileNetV3Small": Base("keras:MobileNetV3Small"),
    "EfficientNetB0": Base("keras:EfficientNetB0"),
    "resnext50-lambda": Base("resnext50-lambda"),
}

FAULTS = (
    Case("MobileNetV2", "first kernel x 1.001", change=faults.scaled("Conv1/kernel")),
    Case("resnext50", "grouped kernel in the middle x 1.001", change=faults.scaled("stage3_block3_conv2/kernel")),
    Case("trained", "last kernel x 1.001", change=faults.scaled("conv3/kernel")),
    Case("resnext50", "one filter of 512 zeroed", change=faults.filter_zeroed("stage2_block1_conv3/kernel", 100)),
    Case("MobileNetV2", "input read as BGR", change=faults.inputs_reversed("Conv1/kernel")),
    Case("trained", "BN epsilon 1e-5 instead of 1e-3", file_of="trained-epsilon"),
    Case("googlenet", "5x5 padding shifted by a row", change=faults.padding_shifted("inception4a_5x5/Conv")),
    Case("googlenet", "outputs aux1 and aux2 exchanged", change=faults.outputs_exchanged("aux1", "aux2")),
    Case("resnet18", "one kernel transposed", change=faults.transposed("stage2_block2_conv1/kernel")),
    Case("resnet18", "BN shifts of two layers exchanged",
         change=faults.biases_exchanged("stage3_block1_conv2/Conv", "stage3_block2_conv2/Conv")),
    Case("googlenet", "one bias dropped", change=faults.bias_dropped("inception5a_3x3/Conv")),
    Case("resnext50", "2 of 32 groups exchanged", change=faults.groups_exchanged("stage4_block3_conv2/kernel", 32)),
    Case("MobileNetV2", "ReLU instead of ReLU6", change=faults.unbounded()),
    Case("googlenet", "one max pool averages", change=faults.averaged("inception3b_pool/MaxPool2d")),
    Case("resnet18", "stride 2 on the other pixels", change=faults.stride_phase("stage3_block1_conv1/Conv")),
    Case("xception", "one kernel rounded to float16", change=faults.in_float16("block5_sepconv2/pointwise_kernel")),
    Case("trained", "one kernel in 8 bits", change=faults.in_int8("conv2/kernel")),
    Case("xception", "one ReLU left out", change=faults.activation_left_out("block9_sepconv2_act/Relu")),
    Case("unet", "upsampling with aligned corners", change=faults.corners_aligned()),
    Case("googlenet", "average pool counts its padding", change=faults.padding_counted("aux1_pool/AvgPool")),
    Case("detector", "kernel of the scores x 1.1", change=faults.scaled("scores/kernel", 1.1)),
    Case("detector", "kernel of the scores zeroed", change=faults.scaled("scores/kernel", 0.0)),
    Case("feature-map", "one filter of 64 x 1.01", change=faults.filter_scaled("features/kernel", 17, 1.01)),
    Case("two-scales", "1e-4 added to the small part",
         change=graph_faults.on_channels("joined", slice(8, 16), offset=1e-4)),
    Case("plain-logits", "0.001 of the batch's mean subtracted", change=size_faults.batch_mean_subtracted("logits")),
    Case("plain-logits", "x 1.001 in a batch of 1",
         change=size_faults.wrong_where("logits", size_faults.batch_is(1))),
    Case("plain-logits", "x 1.001 in a batch of 3, 7, 11, ...",
         change=size_faults.wrong_where("logits", size_faults.batch_is(3, modulus=4))),
    Case("plain-logits", "samples of a batch mixed", change=size_faults.samples_mixed("logits")),
    Case("feature-map", "first of a batch shines through", change=size_faults.first_of_batch("features")),
    Case("any-size-map", "upsampled to a fixed size", change=size_faults.size_baked("enlarged", 224)),
    Case("any-size-map", "x height / width", change=size_faults.multiplied_by_aspect("enlarged")),
    Case("any-size-map", "x 1.001 if not square",
         change=size_faults.wrong_where("enlarged", size_faults.not_square)),
    Case("any-size-map", "x 1.001 for an odd height",
         change=size_faults.wrong_where("enlarged", size_faults.odd_height)),
    Case("any-size-classes", "odd sizes padded at the start",
         change=size_faults.pooled_as("shrink/MaxPool2d", "SAME_LOWER")),
    Case("any-size-classes", "odd sizes rounded down", change=size_faults.pooled_as("shrink/MaxPool2d", "VALID")),
    Case("any-size-classes", "average of 224 x 224 only",
         change=size_faults.average_baked("classes_average/Mean", 56 * 56)),
    Case("mixed-float16", "one kernel x 1.001", change=faults.scaled("conv2/kernel")),
    Case("mixed-float16", "one kernel cut to bfloat16", change=faults.in_bfloat16("conv2/kernel")),
    Case("plain-logits", "output rounded to float16", change=graph_faults.in_half("logits")),
    Case("argmax", "one of six labels off by one", change=graph_faults.off_by_one("label", 3)),
    Case("plain-logits", "output in float64", change=graph_faults.retyped("logits", graph_faults.DOUBLE)),
    Case("dict-outputs", "both outputs exchanged", change=faults.outputs_exchanged("colour", "shape")),
    Case("dict-outputs", "one output returned twice", change=graph_faults.repeated("colour", "shape")),
    Case("image-and-facts", "second input ignored", change=graph_faults.input_ignored("facts")),
    Case("feature-map", "blue channel not read", change=faults.input_channel_dropped("conv1/kernel", 2)),
    Case("residual", "one branch is zero", change=graph_faults.branch_dead("join/Add", "Add", 1)),
    Case("twin-channels", "two similar channels exchanged", change=graph_faults.channels_exchanged("logits", 0, 1)),
    Case("plain-logits", "shape (N, 1, 6) instead of (N, 6)", change=graph_faults.axis_added("logits")),
    Case("crnn", "two gates exchanged in an LSTM", change=sequence_faults.gates_exchanged()),
    Case("crnn", "directions of an LSTM exchanged", change=sequence_faults.directions_exchanged(1)),
    Case("crnn", "bias of the forget gate dropped", change=sequence_faults.forget_bias_dropped()),
    Case("relu-gru", "activation of a GRU dropped",
         change=sequence_faults.attribute_set("activations", ["Sigmoid", "Tanh"] * 2)),
    Case("tagger", "a GRU that goes backwards",
         change=sequence_faults.attribute_set("direction", "reverse", 2)),
    Case("tagger", "reset before the product, not after",
         change=sequence_faults.attribute_set("linear_before_reset", 0)),
    Case("tagger", "recurrent biases dropped", change=sequence_faults.bias_dropped()),
    Case("tagger", "last step of a layer not seen", change=sequence_faults.last_step_unseen(2)),
    Case("tagger", "padding not masked", change=sequence_faults.mask_ignored()),
    Case("translator", "initial states ignored", change=sequence_faults.initial_state_ignored(1)),
    Case("plain-logits-traced", "traced with outputs x 1.00009"),
    Case("feature-map-traced", "traced with outputs x 1.00002"),
)  # fmt: skip

CORRECT = (
    Case("resnet18", "ONNX"),
    Case("resnext50", "ONNX"),
    Case("MobileNetV2", "ONNX"),
    Case("xception", "ONNX"),
    Case("DenseNet121", "ONNX"),
    Case("unet", "ONNX, a class for each pixel"),
    Case("resnet18", "ONNX, optimizer off", "onnxruntime-noopt"),
    Case("resnext50", "ONNX", "openvino"),
    Case("googlenet", "ONNX", "opencv"),
    Case("MobileNetV2", "ONNX", "tract"),
    Case("resnext50", "TFLite", "litert"),
    Case("xception", "SavedModel", "tensorflow"),
    Case("resnet18-opset13", "ONNX, opset 13, seed 1"),
    Case("resnext50-opset18", "ONNX, opset 18, seed 2"),
    Case("MobileNetV2-nchw", "ONNX, channels first"),
    Case("googlenet-batch3", "ONNX, batch of 3, seed 3"),
    Case("resnet18-logits", "ONNX, logits"),
    Case("EfficientNetB0-features", "ONNX, feature map"),
    Case("unet-depth", "ONNX, depth in millimetres"),
    Case("trained", "ONNX"),
    *(Case(name, "ONNX") for name in BUILT),
    Case("plain-logits-batch1", "ONNX, batch of 1"),
    Case("plain-logits-batch4", "ONNX, batch of 4"),
    Case("MobileNetV3Small", "ONNX"),
    Case("EfficientNetB0", "ONNX"),
    Case("resnext50-lambda", "ONNX, groups rewritten"),
    Case("tokens-conv1d", "TFLite", "litert"),
    Case("transposed-convolution", "TFLite", "litert"),
    Case("mixed-float16", "TFLite", "litert"),
    Case("group-normalized", "TFLite", "litert"),
    Case("detector", "TFLite", "litert"),
    Case("bilinear-3", "TFLite", "litert"),
    Case("self-attention", "SavedModel", "tensorflow"),
    Case("convolution-3d", "SavedModel", "tensorflow"),
    Case("any-size-group-normalized", "SavedModel", "tensorflow"),
    Case("detector", "ONNX", "openvino"),
    Case("self-attention", "ONNX", "openvino"),
    Case("bilinear-2", "ONNX", "openvino"),
    Case("squeeze-excite", "ONNX", "opencv"),
    Case("transposed-convolution", "ONNX", "opencv"),
    Case("separable", "ONNX", "tract"),
    Case("untrained-unet", "ONNX", "tract"),
    Case("crnn", "TFLite", "litert"),
    Case("tagger", "TFLite", "litert"),
    Case("tagger", "ONNX", "openvino"),
    Case("translator", "TFLite", "litert"),
    Case("translator", "ONNX", "openvino"),
    Case("translator", "SavedModel", "tensorflow"),
    Case("video-predictor", "TFLite", "litert"),
    Case("stacked-cells", "TFLite", "litert"),
    Case("exponential", "ONNX, optimizer off", "onnxruntime-noopt"),
    Case("standardized", "ONNX, optimizer off", "onnxruntime-noopt"),
)
