"""cnnexport: exports Keras CNNs to ONNX, TFLite and SavedModel and proves each artifact against Keras's predictions.

`export(model, ...)` and `verify(directory, ...)` do the same as the commands of the same names; both return a `Report`.
Every error is a subclass of `CnnExportError`, one class for each exit code. `import cnnexport` and `import converter`
provide the same names. Importing this package loads no large library: a name is imported from its module at its first
use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from converter.core.version import __version__

if TYPE_CHECKING:
    from converter.core.data import Source, SourceOptions, WriteOptions
    from converter.core.errors import (
        ChildError,
        CnnExportError,
        ConversionError,
        InconclusiveError,
        InputError,
        OutputError,
        ParityError,
        UnavailableError,
        UnsafeError,
        UsageError,
    )
    from converter.core.results import Report
    from converter.fleets.fleet import fleet
    from converter.fleets.tasks import FleetOptions, FleetReport, FleetRow
    from converter.pipeline.evaluate import evaluate
    from converter.pipeline.export import export
    from converter.pipeline.inspect import InspectResult, inspect
    from converter.pipeline.load import load
    from converter.pipeline.options import ExportOptions
    from converter.pipeline.predict import PredictResult, predict
    from converter.pipeline.rewrite import RewriteResult, rewrite
    from converter.pipeline.train import TrainResult, train
    from converter.pipeline.verify import verify
    from converter.prediction.evaluation import Evaluation
    from converter.report.baseline import Baseline
    from converter.serving.package import Package, package
    from converter.signing.sign import Signed, sign

__all__ = [
    "Baseline",
    "ChildError",
    "CnnExportError",
    "ConversionError",
    "Evaluation",
    "ExportOptions",
    "FleetOptions",
    "FleetReport",
    "FleetRow",
    "InconclusiveError",
    "InputError",
    "InspectResult",
    "OutputError",
    "Package",
    "ParityError",
    "PredictResult",
    "Report",
    "RewriteResult",
    "Signed",
    "Source",
    "SourceOptions",
    "TrainResult",
    "UnavailableError",
    "UnsafeError",
    "UsageError",
    "WriteOptions",
    "__version__",
    "evaluate",
    "export",
    "fleet",
    "inspect",
    "load",
    "package",
    "predict",
    "rewrite",
    "sign",
    "train",
    "verify",
]

_HOMES = {
    "converter.core.data": ("Source", "SourceOptions", "WriteOptions"),
    "converter.core.errors": (
        "ChildError", "CnnExportError", "ConversionError", "InconclusiveError", "InputError", "OutputError",
        "ParityError", "UnavailableError", "UnsafeError", "UsageError",
    ),
    "converter.core.results": ("Report",),
    "converter.fleets.fleet": ("fleet",),
    "converter.fleets.tasks": ("FleetOptions", "FleetReport", "FleetRow"),
    "converter.pipeline.evaluate": ("evaluate",),
    "converter.pipeline.export": ("export",),
    "converter.pipeline.inspect": ("InspectResult", "inspect"),
    "converter.pipeline.load": ("load",),
    "converter.pipeline.options": ("ExportOptions",),
    "converter.pipeline.predict": ("PredictResult", "predict"),
    "converter.pipeline.rewrite": ("RewriteResult", "rewrite"),
    "converter.pipeline.train": ("TrainResult", "train"),
    "converter.pipeline.verify": ("verify",),
    "converter.prediction.evaluation": ("Evaluation",),
    "converter.report.baseline": ("Baseline",),
    "converter.serving.package": ("Package", "package"),
    "converter.signing.sign": ("Signed", "sign"),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("converter."):
            raise
        raise AttributeError(f"cnnexport-verify only verifies and has no {name}; pip install cnnexport") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
