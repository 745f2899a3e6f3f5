"""cnnexport: Keras CNNs to ONNX, TFLite and SavedModel, each artifact proven against Keras's predictions.

`export(model, ...)` and `verify(directory, ...)` are the commands of the same names; both return a
`converter.results.Report`. Importing this package loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.version import __version__

if TYPE_CHECKING:
    from converter.results import Report

__all__ = ["__version__", "export", "verify"]


def export(model: Any, options: Any = None, **arguments: Any) -> Report:
    """Export a source's text or a keras.Model; see `export` and `ExportOptions` of `converter.pipeline`."""
    from converter import pipeline

    return pipeline.export(model, options, **arguments)


def verify(directory: Any, **arguments: Any) -> Report:
    """Prove an artifact directory again; see `converter.pipeline.verify`."""
    from converter import pipeline

    return pipeline.verify(directory, **arguments)
