"""The complete line: `export`, `verify` and `rewrite`, and the stages of an export.

Each stage is one call into the package that implements it. Modules that need TensorFlow are imported inside functions,
so that a machine that only verifies does not need it.
"""

from converter.pipeline.options import ExportOptions

__all__ = ["ExportOptions"]
