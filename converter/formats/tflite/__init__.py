"""TFLite: `write` is the way from the trace to the file; beside it, each of its steps in a module of its own."""

from converter.formats.tflite.write import FORMAT

__all__ = ["FORMAT"]
