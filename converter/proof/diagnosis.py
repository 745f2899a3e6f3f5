"""Finds where a failed file goes wrong: the first Keras layer whose activation exceeds its tolerance.

Needs only the artifact directory. layers.json (see `converter.bundle.layers`) has sketches of the Keras layers'
activations for the golden inputs, and the names of the tensors of the file that must be equal to them. Here these
tensors are computed again and compared. Runs only after a failure, and never changes a verdict.
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
from converter.core.sketch import CHANNELS_FIRST, KERAS_LAYOUT, SAMPLES, distance, from_text, sketch
from converter.core.text import one_line
from converter.proof import forked, isolate
from converter.proof.children import RUN_CHILD
from converter.proof.plan import first_runtimes
from converter.proof.protocol import LayersJob, Subject, layers_answer
from converter.proof.tolerance import bound
from converter.runtimes import RUNNERS

INPUT_TOLERANCE = 1e-5
"""Relative L2 up to which golden inputs count as those that layers.json was made with; it stores them in float32."""

DIAGNOSIS_RUNTIMES = {"onnx": "onnxruntime-noopt", "tflite": "litert"}
"""The formats whose files can be diagnosed, with the runtime from which their tensors are read."""

CHILD = "converter.proof.layers_child"
"""The program that reads the tensors of a file."""

_LAYOUTS = {"onnx": (KERAS_LAYOUT, CHANNELS_FIRST), "tflite": (KERAS_LAYOUT,)}
_RUNTIME_NAMES = {"litert": "litert without a delegate"}  # how the report calls a runtime; see `run_litert.tensors`


def children_of(formats: Sequence[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The children that an export of `formats` will need: to start at once, and when TensorFlow is imported.

    The one that needs TensorFlow is a copy of the export where that is possible. Otherwise it takes as long to import
    it as the export, which must not be slowed down meanwhile by the others.
    """
    able = [(form, runtime) for form in formats for runtime in first_runtimes(form)]
    long = [(RUN_CHILD, runtime) for form, runtime in able if form == "saved-model"]
    short = [(RUN_CHILD, runtime) for form, runtime in able if form != "saved-model"]
    short += [(CHILD, DIAGNOSIS_RUNTIMES[form]) for form, _ in able if form in DIAGNOSIS_RUNTIMES]
    return (long, short) if long and not forked.able() else (short, long)


def explain(subject: Subject) -> Diagnosis:
    """The reason why the file of `subject`, of a format in `DIAGNOSIS_RUNTIMES`, failed.

    The error of a layer is the larger one of the two samples. If the runtime of `subject` gives no access to tensors,
    they are read from the one in `DIAGNOSIS_RUNTIMES`, on the CPU. If nothing is found, the text says why; no error is
    raised.
    """
    directory, artifact, runtime = subject.directory, subject.artifact, subject.runtime
    shown = subject
    if not RUNNERS[runtime].tensors:
        shown = replace(subject, runtime=DIAGNOSIS_RUNTIMES[artifact.format], device="cpu")
    try:
        known = read_layers(directory) if (directory / LAYERS).exists() else None
        layers = known.artifacts.get(artifact.path) if known else None
        if known is None or layers is None:
            return _no_layer(f"the export recorded no activations to compare {artifact.path} with")
        golden = read_golden(directory / GOLDEN, subject.interface)
        for name, array in golden.inputs.items():
            if name not in known.inputs or distance(sketch(array[:SAMPLES]), known.inputs[name]) > INPUT_TOLERANCE:
                return _no_layer("the golden inputs differ from those that the export recorded activations for")
        size = 4 * sum(layer.elements for layer in layers) // max(1, len(layers))
        found = sketches(shown, [layer.tensor for layer in layers], size, SAMPLES)
    except CnnExportError as error:
        return _no_layer(one_line(error, 300))
    used = _RUNTIME_NAMES.get(shown.runtime, shown.runtime)
    rows = tuple(_compare(layer, found) for layer in layers)
    if all(row.error is None for row in rows):
        return _no_layer("the file has none of the tensors that the export recorded")
    first = next((place for place, row in enumerate(rows) if row.error is not None and row.error > row.tolerance), None)
    if first is None:
        return Diagnosis(_all_within_text(runtime, shown.runtime), rows, where=used)
    layer, after = layers[first], rows[first].error
    before, absent = _error_before(first, layers, rows)
    text = f"first divergence: {_description(layer)}: {before:.1e} before, {after:.1e} after"
    if absent:
        text += f"; or one of the {absent} layers before it that cannot be read from this file"
    return Diagnosis(text, rows, first, before, after, used)


def sketches(
    subject: Subject, tensors: Sequence[str] | None, mean_bytes: int, samples: int
) -> dict[str, tuple[int, dict[str, Array]]]:
    """The sketches of `tensors` (None: all) of a file: (size of one sample, sketches by layout), by tensor name.

    The first `samples` golden inputs are run in a child process, see `converter.proof.layers_child`. Tensors that the
    file lacks are missing in the result. Raises ChildError and InputError.
    """
    wanted = None if tensors is None else tuple(tensors)
    job = LayersJob(subject, wanted, _LAYOUTS[subject.artifact.format], mean_bytes, samples)
    answer = layers_answer(isolate.call(CHILD, job, f"the layers of {subject.artifact.path}", runtime=subject.runtime))
    return {
        name: (each.elements, {layout: from_text(text) for layout, text in each.sketches.items()})
        for name, each in answer.tensors.items()
    }


def _error_before(first: int, layers: Sequence[Layer], rows: Sequence[LayerError]) -> tuple[float, int]:
    """The largest error of the nearest layers before `first`, and how many layers without an error are between.

    The inputs of `first` are followed back to layers that have an error.
    """
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


def _compare(layer: Layer, found: Mapping[str, tuple[int, Mapping[str, Array]]]) -> LayerError:
    covers = tuple(name for name, _ in layer.covers)
    tolerance = bound(layer.noise, "float32")
    return LayerError(layer.name, layer.kind, covers, layer.tensor, _error(layer, found), tolerance, layer.noise)


def _error(layer: Layer, found: Mapping[str, tuple[int, Mapping[str, Array]]]) -> float | None:
    """Relative L2 of a layer's activation; infinite if its size differs, None if the file has no such tensor."""
    if layer.tensor not in found:
        return None
    elements, layouts = found[layer.tensor]
    if elements != layer.elements or layer.layout not in layouts:
        return math.inf
    return distance(layouts[layer.layout], layer.sketch)


def _description(layer: Layer) -> str:
    """`conv (Conv2D)`, followed by the layers that were computed together with it."""
    others = [f"{name} ({kind})" for name, kind in layer.covers if name != layer.name]
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f"{layer.name} ({layer.kind})" + (f", with {', '.join(others[:3])}{more}" if others else "")


def _all_within_text(runtime: str, used: str) -> str:
    if runtime == used and used not in _RUNTIME_NAMES:
        fine, rest = "where its activation can be read", "fused nodes"
    else:
        fine, rest = f"in {_RUNTIME_NAMES.get(used, used)}", "its delegate" if runtime == used else runtime
    return f"every layer is within its tolerance {fine}, so the difference arises in {rest}"


def _no_layer(reason: str) -> Diagnosis:
    return Diagnosis(f"no layer found: {reason}")
