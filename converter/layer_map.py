"""Which tensor of a written ONNX file is which Keras layer's activation; found at export and kept in layers.json.

By value: names do not survive folding and merging, and a convolution whose batch normalization was folded into it has
no equal in the file at all. Such a layer counts to the next end that has one. A layer without parameters that no
value matches, as in a file that is wrong already, is taken to be the tensor of its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.core import Array, Artifact, Golden, TensorSpec
from converter.diagnosis import sketches
from converter.diagnosis_file import Layer, Layers, write_layers
from converter.errors import ChildError, InputError, UnavailableError
from converter.layer_ends import LayerEnd
from converter.naming import layer_of
from converter.sketch import SAMPLES, distance, sketch

ALIKE = 1e-4
"""Relative L2 up to which two activations are taken for the same: above float noise, far below a wrong kernel."""


@dataclass(frozen=True)
class _Tensor:
    name: str
    layout: str
    elements: int
    sketch: Array


def write(
    directory: Path,
    artifact: Artifact,
    specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    golden: Golden,
    ends: Sequence[LayerEnd],
) -> tuple[str, ...]:
    """Run the ONNX file `artifact` of `directory` on one golden input and write layers.json beside it.

    `specs` are the Keras model's inputs and outputs. Nothing is written where no end was measured or none is found in
    the file. Returns a warning where the file could not be run with all its tensors exposed. Raises OutputError.
    """
    sizes = [end.elements for end in ends if end.sketch is not None]
    if not sizes:
        return ()
    try:
        found = sketches(directory, artifact, specs, "onnxruntime-noopt", "cpu", None, 4 * int(np.mean(sizes)), 1)
    except (ChildError, InputError, UnavailableError) as error:
        return (f"no layer can be named should {artifact.path} fail: {' '.join(str(error).split())}",)
    tensors: dict[int, list[_Tensor]] = {}
    for name, (elements, layouts) in found.items():
        tensors.setdefault(elements, []).extend(_Tensor(name, key, elements, each) for key, each in layouts.items())
    owners = {end.layer: end.kind for end in ends}
    matched: dict[int, _Tensor] = {}
    for place, end in enumerate(ends):
        tensor = _match(end, tensors.get(end.elements, []), owners)
        if tensor is not None:
            matched[place] = tensor
    layers = _joined(ends, matched)
    if layers:
        inputs = {name: sketch(array[:SAMPLES]) for name, array in golden.inputs.items()}
        write_layers(directory, Layers(artifact.path, inputs, layers))
    return ()


def _match(end: LayerEnd, tensors: Sequence[_Tensor], owners: Mapping[str, str]) -> _Tensor | None:
    """The tensor that equals `end`: of the equal ones the one of the same name, of the same layer, or the first."""
    if end.sketch is None or not np.any(end.sketch[:1]):
        return None
    apart = [(distance(tensor.sketch, end.sketch[:1]), tensor) for tensor in tensors]
    alike = [tensor for gap, tensor in apart if gap <= ALIKE]
    if alike:
        own = [tensor for tensor in alike if tensor.name == end.node]
        near = [tensor for tensor in alike if layer_of(tensor.name, owners) == end.layer]
        return (own or near or alike)[0]
    named = [(gap, tensor) for gap, tensor in apart if tensor.name == end.node and not end.parameters]
    return min(named, key=lambda pair: pair[0])[1] if named else None


def _joined(ends: Sequence[LayerEnd], matched: Mapping[int, _Tensor]) -> tuple[Layer, ...]:
    """The matched ends as layers; each covers its own layer and the unmatched ones between it and its inputs."""
    layers: list[Layer] = []
    position: dict[int, int] = {}
    for place, tensor in matched.items():
        end = ends[place]
        covered, inputs = {place}, set()
        waiting = list(end.inputs)
        while waiting:
            source = waiting.pop()
            if source in position:
                inputs.add(position[source])
            elif source not in covered:
                covered.add(source)
                waiting.extend(ends[source].inputs)
        covers = {ends[each].layer: ends[each].kind for each in sorted(covered)}
        owner = layer_of(tensor.name, covers)
        name = owner if owner in covers else end.layer
        position[place] = len(layers)
        assert end.sketch is not None
        layers.append(
            Layer(
                name, covers[name], tuple(covers.items()), tuple(sorted(inputs)), tensor.name, tensor.layout,
                end.elements, end.noise, end.sketch,
            )
        )  # fmt: skip
    return tuple(layers)
