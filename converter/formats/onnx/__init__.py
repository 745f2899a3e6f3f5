"""ONNX: `write` is the way from the trace to the file; beside it, each of its steps in a module of its own."""

from converter.formats.onnx.write import FORMAT, OPSETS

__all__ = ["FORMAT", "OPSETS"]
