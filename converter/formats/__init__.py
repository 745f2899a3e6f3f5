"""The formats that cnnexport writes. To add one: a module with a `FORMAT`, and a line in this table."""

from converter.core.data import Format
from converter.formats import to_onnx, to_saved_model, to_tflite

FORMATS: dict[str, Format] = {
    "onnx": to_onnx.FORMAT,
    "tflite": to_tflite.FORMAT,
    "saved-model": to_saved_model.FORMAT,
}
