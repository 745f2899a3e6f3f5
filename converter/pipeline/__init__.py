"""The line from end to end: `export` and `verify`, the stages that they are made of, and `rewrite`.

Stages only: each is one call into the package that knows it. What needs TensorFlow is imported where it is used, so
that a machine that only verifies needs none of it.
"""

from converter.pipeline.options import ExportOptions

__all__ = ["ExportOptions"]
