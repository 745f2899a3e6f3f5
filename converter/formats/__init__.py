"""The formats that cnnexport writes. To add one: a module or a package with a `FORMAT`, and a line in this table."""

from converter.core.data import Format
from converter.formats import onnx, saved_model, tflite

FORMATS: dict[str, Format] = {
    "onnx": onnx.FORMAT,
    "tflite": tflite.FORMAT,
    "saved-model": saved_model.FORMAT,
}
