"""cnnexport: Keras CNNs to ONNX, TFLite and SavedModel, each artifact proven against Keras's predictions.

`export(model, ...)` and `verify(directory, ...)` are the commands of the same names; both return a
`converter.core.results.Report`. Importing this package loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.core.version import __version__

if TYPE_CHECKING:
    from converter.core.results import Report

__all__ = ["__version__", "export", "verify"]


def export(model: Any, options: Any = None, **arguments: Any) -> Report:
    """Export a source's text or a keras.Model; see `export` and `ExportOptions` of `converter.pipeline.export`."""
    from converter.pipeline import export as pipeline

    return pipeline.export(model, options, **arguments)


def verify(directory: Any, **arguments: Any) -> Report:
    """Prove an artifact directory again; see `converter.pipeline.export.verify`."""
    from converter.pipeline import export as pipeline

    return pipeline.verify(directory, **arguments)
