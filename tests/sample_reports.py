"""Reports made by hand for the tests of what is made from reports; no model, no runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from converter.core.data import Artifact, TensorSpec
from converter.core.results import (
    Comparison,
    Control,
    Diagnosis,
    LayerError,
    OutputResult,
    Points,
    Report,
    Stage,
    Tolerance,
)

BOUND = Tolerance(1.6e-5, 1.6e-5, 2e-6, 2e-6, 8.0, 1e-6, 1e-4)

HOSTILE = {
    "markup": '<img src=x onerror="alert(1)">',
    "script": "</style></script><script>alert(1)</script>",
    "escapes": "\x1b[2J\x1b[1;1Hpass\x1b]8;;http://x\x1b\\link",
    "lines": "a\nb\r\n::error::c\u2028d]]>",
    "long": "x" * 10_000,
    "control": "nul\x00\x08\x7f\ufffe\uffff\x9b",
    "surrogate": "\udcff alone",
    "bidi": "right\u202eto left\u200b",
    "template": "{{ 7 * 191 }}{% raw %}&lt;",
    "percent": "100%0A::error::%25",
    "empty": "",
}


def result(name: str = "main", passed: bool = True, error: float | None = 3e-6, **fields: Any) -> OutputResult:
    numbers = {"relative_l2": error, "relative_max": 2e-6, "multiple": None if error is None else error / 2e-6}
    return OutputResult(name, "log-probability", passed, **{**numbers, **fields})


def row(*outputs: OutputResult, subject: str = "onnx", runtime: str = "onnxruntime", **fields: Any) -> Comparison:
    return Comparison(subject, runtime, "cpu", "float32", outputs, 8, 0.054, 1_000_000, **fields)


def artifact(form: str = "onnx", **operators: int) -> Artifact:
    spec = (TensorSpec("image", (None, 8, 8, 3)),)
    return Artifact(form, f"model.{form}", "float32", spec, spec, operators or {"Conv": 3, "Relu": 2}, 1_000_000, 0.5)


def points(count: int = 50, error: float = 1e-6) -> Points:
    reference = np.linspace(-3, 3, count)
    return Points(reference, reference + error, np.full(count, 1e-7))


def diagnosis(*errors: float | None, name: str = "conv", first: int | None = None) -> Diagnosis:
    """One whose layers `conv0`, `conv1`, ... have these errors, with a tolerance of 1e-5."""
    layers = tuple(
        LayerError(f"{name}{place}", "Conv2D", (f"{name}{place}", f"{name}{place}_bn"), name, error, 1e-5, 2e-7)
        for place, error in enumerate(errors)
    )
    text = f"first divergence: {name}{first} (Conv2D): 1.0e-07 before, 2.0e-02 after"
    return Diagnosis(text, layers, first, 1e-7, 2e-2, "litert without a delegate")


def report(**fields: Any) -> Report:
    values: dict[str, Any] = {
        "model": "net",
        "source": {"kind": "zoo", "untrained": True},
        "rows": (row(result()), row(result(error=4e-6), subject="tflite", runtime="litert")),
        "controls": (
            Control("another-sample", True, 0.9, outputs=("main",)),
            Control("kernel-scaled-1.001", True, 2e-3, outputs=("main",)),
        ),
        "tolerances": {"main": BOUND},
        "separation": {"main": 0.31},
        "verdict": "pass",
        "artifacts": (artifact(), artifact("tflite", CONV_2D=3)),
        "timings": {"read": 0.25, "verify onnx in onnxruntime": 1.5, "verify tflite in litert": 0.5},
        "environment": {"python": "3.11", "versions": {"numpy": "2.4"}},
        "directory": "artifacts/net",
        **fields,
    }
    return Report(**values)


def hostile(name: str) -> Report:
    """A failed report in which everything that can have a name has this one."""
    return report(
        model=name,
        source={"kind": name, name: name, "layer_classes": {"loaded": {name: 2}, "rewritten": {name: name}, name: 3}},
        rows=(
            row(result(name), result(f"{name}2", False, None, reason=name), subject=name, runtime=name,
                facts={name: {name: name}}, points={name: points()}, diagnosis=diagnosis(1.0, name=name, first=0)),
        ),
        controls=(Control(name, False, None, name), Control(name, True, 0.5)),
        tolerances={name: BOUND},
        separation={name: 1e-9},
        verdict="fail",
        reasons=(name, f"{name} again"),
        artifacts=(artifact(name, **{name: 3}),),
        warnings=(name,),
        timings={name: 1.0},
        environment={"versions": {name: name}, name: [name]},
        directory=name,
        failures=(name,),
        stages=(Stage(name, name, {name: 1e-3, f"{name}2": None}),),
    )  # fmt: skip
