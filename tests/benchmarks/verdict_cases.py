"""What `verdicts.py` checks: the exports, 20 wrong artifacts made from them, and 20 correct ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import faults
from faults import Change

from converter.core.foreign import Given

TINY, SMALL, MEDIUM = (32, 32, 3), (64, 64, 3), (96, 96, 3)


@dataclass(frozen=True)
class Base:
    """An export: a source's text, or the name of a function of `verdict_models` that builds the model."""

    source: str = ""
    build: str = ""
    input_shape: tuple[int, ...] = SMALL
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
    "trained": Base(build="trained", input_shape=TINY),
    "trained-epsilon": Base(build="trained_epsilon", input_shape=TINY),
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
)
