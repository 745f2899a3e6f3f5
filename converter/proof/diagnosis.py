"""Where a failed file goes wrong: the first Keras layer whose activation leaves its tolerance.

Works from the artifact directory alone. layers.json (see `converter.bundle.layers`) says what Keras's layers answered
to the golden inputs and which tensors of the file must equal that; here those tensors are computed again and compared.
Runs only after a failure, and never changes a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from converter.bundle.golden import read_golden
from converter.bundle.layers import LAYERS, Layer, read_layers
from converter.bundle.manifest import GOLDEN
from converter.core.data import Array
from converter.core.errors import CnnExportError
from converter.core.results import Diagnosis, LayerError
from converter.core.sketch import AS_IT_IS, CHANNELS_FIRST, SAMPLES, distance, from_text, sketch
from converter.core.text import one_line
from converter.proof import isolate
from converter.proof.protocol import LayersJob, Subject, layers_answer
from converter.proof.tolerance import bound
from converter.runtimes import RUNTIMES

SAME_INPUT = 1e-5
"""Relative L2 up to which golden inputs are the ones that layers.json was made with; it holds them in float32."""

READ_IN = {"onnx": "onnxruntime-noopt", "tflite": "litert"}
"""The formats whose files can be diagnosed, and the runtime that shows their tensors as the file has them."""

_LAYOUTS = {"onnx": (AS_IT_IS, CHANNELS_FIRST), "tflite": (AS_IT_IS,)}
_WORDS = {"litert": "litert without XNNPACK"}  # what its tensors are read in, see `run_litert.tensors`


def explain(subject: Subject) -> Diagnosis:
    """Why the file of `subject`, of a format in `READ_IN`, failed.

    Errors are the larger of both samples'. A file that failed in a runtime that does not show its tensors is looked at
    in the one of `READ_IN`, on the CPU. Where nothing can be found out, the text says why; no error is raised for that.
    """
    directory, artifact, runtime = subject.directory, subject.artifact, subject.runtime
    shown = subject
    if not RUNTIMES[runtime].tensors:
        shown = replace(subject, runtime=READ_IN[artifact.format], device="cpu")
    try:
        known = read_layers(directory) if (directory / LAYERS).exists() else None
        layers = known.artifacts.get(artifact.path) if known else None
        if known is None or layers is None:
            return _none(f"the export recorded no activations to compare {artifact.path} with")
        golden = read_golden(directory / GOLDEN, subject.interface)
        for name, array in golden.inputs.items():
            if name not in known.inputs or distance(sketch(array[:SAMPLES]), known.inputs[name]) > SAME_INPUT:
                return _none("the golden inputs are not the ones whose activations the export recorded")
        size = 4 * sum(layer.elements for layer in layers) // max(1, len(layers))
        found = sketches(shown, [layer.tensor for layer in layers], size, SAMPLES)
    except CnnExportError as error:
        return _none(one_line(error, 300))
    used = _WORDS.get(shown.runtime, shown.runtime)
    rows = tuple(_compared(layer, found, subject.device) for layer in layers)
    if all(row.error is None for row in rows):
        return _none("the file has no tensor any more that the export recorded")
    first = next((place for place, row in enumerate(rows) if row.error is not None and row.error > row.tolerance), None)
    if first is None:
        return Diagnosis(_nothing(runtime, shown.runtime), rows, where=used)
    layer, after = layers[first], rows[first].error
    before, absent = _before(first, layers, rows)
    text = f"first divergence: {_described(layer)}: {before:.1e} before, {after:.1e} after"
    if absent:
        text += f"; or it is in one of {absent} layers before it that this file does not show any more"
    return Diagnosis(text, rows, first, before, after, used)


def sketches(
    subject: Subject, tensors: Sequence[str] | None, mean_bytes: int, samples: int
) -> dict[str, tuple[int, dict[str, Array]]]:
    """The size of one sample and the sketches by layout of `tensors` (None: all) of a file, by tensor name.

    The first `samples` golden inputs are run, in a child process (`converter.proof.layers_child`, which says more);
    tensors that the file lacks are missing. Raises ChildError and InputError.
    """
    wanted = None if tensors is None else tuple(tensors)
    job = LayersJob(subject, wanted, _LAYOUTS[subject.artifact.format], mean_bytes, samples)
    answer = layers_answer(isolate.call("converter.proof.layers_child", job, f"the layers of {subject.artifact.path}"))
    return {
        name: (each.elements, {layout: from_text(text) for layout, text in each.sketches.items()})
        for name, each in answer.tensors.items()
    }


def _before(first: int, layers: Sequence[Layer], rows: Sequence[LayerError]) -> tuple[float, int]:
    """The largest error of the nearest layers that `first` reads and that have one; and how many between have none."""
    errors, absent, waiting = [0.0], set(), list(layers[first].inputs)
    while waiting:
        place = waiting.pop()
        error = rows[place].error
        if error is not None:
            errors.append(error)
        elif place not in absent:
            absent.add(place)
            waiting.extend(layers[place].inputs)
    return max(errors), len(absent)


def _compared(layer: Layer, found: Mapping[str, tuple[int, Mapping[str, Array]]], device: str) -> LayerError:
    covers = tuple(name for name, _ in layer.covers)
    row = "tf32" if device.endswith("tf32") else "float32"  # of the outputs' gates
    tolerance = bound(layer.noise, row)
    return LayerError(layer.name, layer.kind, covers, layer.tensor, _error(layer, found), tolerance, layer.noise)


def _error(layer: Layer, found: Mapping[str, tuple[int, Mapping[str, Array]]]) -> float | None:
    """Relative L2 of a layer's activation; infinite where its size differs, None where the file has it no more."""
    if layer.tensor not in found:
        return None
    elements, layouts = found[layer.tensor]
    if elements != layer.elements or layer.layout not in layouts:
        return math.inf
    return distance(layouts[layer.layout], layer.sketch)


def _described(layer: Layer) -> str:
    """`conv (Conv2D)`, with what was computed together with it."""
    others = [f"{name} ({kind})" for name, kind in layer.covers if name != layer.name]
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f"{layer.name} ({layer.kind})" + (f", with {', '.join(others[:3])}{more}" if others else "")


def _nothing(runtime: str, used: str) -> str:
    if runtime == used and used not in _WORDS:
        fine, rest = "where its activation is read", "fused nodes"
    else:
        fine, rest = f"in {_WORDS.get(used, used)}", "XNNPACK" if runtime == used else runtime
    return f"every layer is within its tolerance {fine}, so the difference arises in {rest}"


def _none(reason: str) -> Diagnosis:
    return Diagnosis(f"no layer found: {reason}")
