"""ONNX: `write` makes the file from the trace; each of its steps is a module beside it."""

from converter.formats.onnx.write import FORMAT, OPSETS

__all__ = ["FORMAT", "OPSETS"]
