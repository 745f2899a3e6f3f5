"""Finds the tensor of each Keras layer's activation in a written file, at export, and records it in layers.json.

Tensors are matched by value, because names do not survive folding and merging. A convolution whose batch normalization
was folded into it has no equal tensor in the file; such a layer is covered by the next layer end that has one. A layer
without parameters that no value matches, for example in a file that is already wrong, is matched with the tensor of its
own name.

A tensor of TFLite is named after all nodes that became one operator, joined by ";", mostly from the last to the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.bundle.golden import write_golden
from converter.bundle.layers import Layer, Layers, write_layers
from converter.bundle.manifest import GOLDEN
from converter.core.data import Array, Arrays, Artifact, Golden, Interface
from converter.core.errors import ChildError, InputError, UnavailableError
from converter.core.sketch import SAMPLES, distance, sketch
from converter.proof.diagnosis import DIAGNOSIS_RUNTIMES, sketches
from converter.proof.protocol import Subject
from converter.tracing.layer_ends import LayerEnd
from converter.tracing.naming import layer_of

MATCH_TOLERANCE = 1e-4
"""Relative L2 up to which two activations count as equal: above float noise, far below the effect of a wrong kernel."""


_NAME_SEPARATOR = ";"


@dataclass(frozen=True)
class _Tensor:
    name: str
    layout: str
    elements: int
    sketch: Array


@dataclass(frozen=True)
class Read:
    """The tensors of each file that could be read, by the path of the artifact, and a warning for each other file."""

    tensors: Mapping[str, tuple[_Tensor, ...]]
    warnings: tuple[str, ...] = ()


class Reader:
    """Runs the files of a model with `interface` in `directory` on the first golden inputs, each in a child process.

    They are read one after the other on a thread, while the caller does something else. Only files that can be
    diagnosed are read, and none if no end was measured. Raises OutputError.
    """

    def __init__(self, directory: Path, interface: Interface, inputs: Arrays, ends: Sequence[LayerEnd]) -> None:
        self.directory, self.interface, self.inputs = directory, interface, inputs
        sizes = [end.elements for end in ends if end.sketch is not None]
        self._bytes = 4 * int(np.mean(sizes)) if sizes else 0
        self._pool = ThreadPoolExecutor(1)
        self._found: dict[str, Future[tuple[_Tensor, ...] | str]] = {}
        if sizes:
            write_golden(directory / GOLDEN, Golden(inputs, {}, {}, {}))

    def begin(self, artifact: Artifact) -> None:
        """Read a file that was written."""
        if self._bytes and artifact.format in DIAGNOSIS_RUNTIMES:
            self._found[artifact.path] = self._pool.submit(self._tensors, artifact)

    def finish(self) -> Read:
        """What was found in the files that were begun."""
        answers = {path: each.result() for path, each in self._found.items()}
        return Read(
            {path: found for path, found in answers.items() if not isinstance(found, str)},
            tuple(found for found in answers.values() if isinstance(found, str)),
        )

    def close(self) -> None:
        """Wait for the file that is being read, and read no other."""
        self._pool.shutdown(cancel_futures=True)

    def _tensors(self, artifact: Artifact) -> tuple[_Tensor, ...] | str:
        """The tensors of a file, or a warning."""
        subject = Subject(self.directory, artifact, self.interface, DIAGNOSIS_RUNTIMES[artifact.format], "cpu")
        try:
            found = sketches(subject, None, self._bytes, 1)
        except (ChildError, InputError, UnavailableError) as error:
            reason = " ".join(str(error).split())
            return f"{artifact.path}: no layers recorded, so a failure cannot be located: {reason}"
        return tuple(
            _Tensor(name, key, elements, each)
            for name, (elements, layouts) in found.items()
            for key, each in layouts.items()
        )


def write_record(directory: Path, inputs: Arrays, ends: Sequence[LayerEnd], read: Read) -> None:
    """Find each end among the tensors that were `read`, and write layers.json into `directory`.

    Nothing is written if none is found in any file. Raises OutputError.
    """
    joined = {path: _to_layers(ends, _match(ends, each)) for path, each in read.tensors.items()}
    layers = {path: each for path, each in joined.items() if each}
    if layers:
        write_layers(directory, Layers({name: sketch(array[:SAMPLES]) for name, array in inputs.items()}, layers))


def _match(ends: Sequence[LayerEnd], tensors: Sequence[_Tensor]) -> dict[int, _Tensor]:
    """The tensor of each end's activation, by the index of the end, in the order of the ends."""
    owners = {end.layer: end.kind for end in ends}
    places = {end.node: place for place, end in enumerate(ends)}
    sizes: dict[int, list[_Tensor]] = {}
    named: dict[int, list[_Tensor]] = {}
    for tensor in tensors:
        sizes.setdefault(tensor.elements, []).append(tensor)
        meant = [places[part] for part in tensor.name.split(_NAME_SEPARATOR) if part in places]
        if meant:
            named.setdefault(max(meant), []).append(tensor)  # several nodes became one: the output of the last
    known = {place: end.sketch[:1] for place, end in enumerate(ends) if end.sketch is not None}
    known = {place: wanted for place, wanted in known.items() if np.any(wanted)}
    matched = {}
    for place, wanted in known.items():
        equal = _equal(ends[place], wanted, sizes.get(ends[place].elements, []), owners)
        if equal is not None:
            matched[place] = equal
    taken = {tensor.name for tensor in matched.values()}
    for place in [place for place in known if place not in matched and not ends[place].parameters]:
        own = [each for each in named.get(place, []) if each.elements == ends[place].elements]
        apart = [(distance(each.sketch, known[place]), each) for each in own if each.name not in taken]
        if apart:
            matched[place] = min(apart, key=lambda pair: pair[0])[1]
    return dict(sorted(matched.items()))


def _equal(end: LayerEnd, wanted: Array, tensors: Sequence[_Tensor], owners: Mapping[str, str]) -> _Tensor | None:
    """The tensor equal to `wanted`; if there are several, the one of `end`, one of its layer, or the first."""
    alike = [tensor for tensor in tensors if distance(tensor.sketch, wanted) <= MATCH_TOLERANCE]
    own = [tensor for tensor in alike if end.node in tensor.name.split(_NAME_SEPARATOR)]
    near = [tensor for tensor in alike if end.layer in _layers_of(tensor.name, owners)]
    return next(iter(own or near or alike), None)


def _layers_of(name: str, owners: Mapping[str, str]) -> set[str]:
    """The layers whose nodes are in the name of a tensor."""
    return {layer_of(part, owners) for part in name.split(_NAME_SEPARATOR)}


def _to_layers(ends: Sequence[LayerEnd], matched: Mapping[int, _Tensor]) -> tuple[Layer, ...]:
    """The matched ends as layers. Each covers its own layer and the unmatched ones between it and its inputs."""
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
        owners = _layers_of(tensor.name, covers)
        name = next((layer for layer in covers if layer in owners), end.layer)  # the first: a convolution, not its ReLU
        position[place] = len(layers)
        assert end.sketch is not None
        layers.append(
            Layer(
                name, covers[name], tuple(covers.items()), tuple(sorted(inputs)), tensor.name, tensor.layout,
                end.elements, end.noise, end.sketch,
            )
        )  # fmt: skip
    return tuple(layers)
