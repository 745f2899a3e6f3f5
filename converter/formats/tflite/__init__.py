"""TFLite: `write` makes the file from the trace; each of its steps is a module beside it."""

from converter.formats.tflite.write import FORMAT

__all__ = ["FORMAT"]
