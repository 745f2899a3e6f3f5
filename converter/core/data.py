"""The data of the line up to what runtimes return: source -> Rewritten -> Traced -> Artifact -> outputs.

What is found of the outputs is in `converter.core.results`. Frozen dataclasses only, built from the standard library
and numpy; no behaviour beyond what a field can answer about itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from converter.core.foreign import GraphDef, Json, KerasModel

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Activation = Literal["softmax", "sigmoid", "linear"]
Verdict = Literal["pass", "fail", "inconclusive"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model, under its Keras name.

    `shape` includes the batch axis first, `None` where a size is dynamic. `layout` is "nhwc", "nchw" or "" where the
    tensor is no image batch. `activation` is how an output ends: it decides the domain of the comparison.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    layout: str = ""
    activation: Activation = "linear"


@dataclass(frozen=True)
class Interface:
    """What goes into a Keras model and what comes out of it, in the model's order; names are unique on each side."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def by_output(self) -> dict[str, TensorSpec]:
        """The outputs by name."""
        return {spec.name: spec for spec in self.outputs}


@dataclass(frozen=True)
class RuleResult:
    """What one rewrite rule did at one place: `applied`, or declined with a `reason`."""

    rule: str
    layer: str
    applied: bool
    reason: str = ""


@dataclass(frozen=True)
class Rewritten:
    """A Keras model after the rewrites. `model` is the input model itself where no rule applied.

    `on_purpose` is True where a rule changed the function because the user asked for it.
    """

    model: KerasModel
    results: tuple[RuleResult, ...] = ()
    warnings: tuple[str, ...] = ()
    on_purpose: bool = False

    @property
    def changed(self) -> bool:
        return any(result.applied for result in self.results)


@dataclass(frozen=True)
class Traced:
    """A model as one TensorFlow graph without its large weights.

    `graph_def` holds a Placeholder for every model input and for every key of `weights`; small tensors stay in it as
    constants. `inputs` and `outputs` are keyed by graph node name (an output node is an Identity that carries the
    Keras name). Every array of `weights` has the dtype and shape of its placeholder.
    """

    graph_def: GraphDef
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    weights: Mapping[str, Array]
    layers: Mapping[str, str] = field(default_factory=dict)  # Keras layer name -> class name
    half: str = ""  # "float16" or "bfloat16" where Keras computes in it; the graph is float32


@dataclass(frozen=True)
class WriteOptions:
    """What a user may fix about an artifact. `batch` None keeps the batch axis dynamic."""

    batch: int | None = None
    opset: int = 17
    layout: Literal["nhwc", "nchw"] = "nhwc"


@dataclass(frozen=True)
class Artifact:
    """A written file or directory. `path` is relative to the artifact directory; `operators` is its op histogram.

    `inputs` and `outputs` are as the file has them: `layout` and a fixed batch size differ from the Keras model's.
    """

    format: str
    path: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    size: int
    seconds: float
    options: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A format that can be written: `write(traced, directory, options)` returns the Artifact it left in `directory`."""

    name: str
    filename: str
    write: Callable[[Traced, Path, WriteOptions], Artifact]


@dataclass(frozen=True)
class Prepared:
    """A loaded artifact. `run` maps inputs by name to outputs by name; `facts` go into the report as they are."""

    run: Callable[[Arrays], dict[str, Array]]
    facts: Mapping[str, Json] = field(default_factory=dict)


Watched = Callable[[Arrays], Iterable[tuple[str, Array]]]
"""One run that tells what it computes on the way: inputs by name to the tensors, one after the other, with names."""


@dataclass(frozen=True)
class Runtime:
    """A library that runs artifacts.

    `unavailable(device)` returns the reason why it cannot run here, or None. `prepare(path, artifact, device)` loads
    `path`, the file itself, and checks that names are those of `artifact`. `tensors(path, artifact, device, wanted,
    at_once)` loads it so that the tensors `wanted` (None: all) can be read, outputs always, as one or more `Watched`
    that have different tensors, about `at_once` of them each; None where the library does not show them.
    """

    name: str
    reads: tuple[str, ...]
    devices: tuple[str, ...]
    version: Callable[[], str | None]
    unavailable: Callable[[str], str | None]
    prepare: Callable[[Path, Artifact, str], Prepared]
    tensors: Callable[[Path, Artifact, str, Collection[str] | None, int], Iterator[Watched]] | None = None


@dataclass(frozen=True)
class Golden:
    """The proof that travels with the artifacts: arrays by name, every one with the sample axis first.

    `references` are Keras's float32 outputs, `exact` the same model's in float64 (empty where it could not be built),
    `controls` the outputs of the negative controls by control name.
    """

    inputs: Mapping[str, Array]
    references: Mapping[str, Array]
    exact: Mapping[str, Array]
    controls: Mapping[str, Mapping[str, Array]]

    @property
    def samples(self) -> int:
        return len(next(iter(self.inputs.values())))


def float64(array: Array) -> npt.NDArray[np.float64]:
    """`array` as float64, shape unchanged."""
    return np.asarray(array, dtype=np.float64)


@dataclass(frozen=True)
class Source:
    """A loaded model and where it came from.

    `name` is fit for a directory name. `kind` is "zoo", "file", "keras" or "function"; `detail` goes into the manifest
    as it is (path, sha256, builder, ...), `mended` lists what an older file needed. `untrained` marks seeded and
    calibrated weights. `preprocessing` tells the value range of valid inputs under "range".
    """

    model: KerasModel
    name: str
    kind: str
    detail: Mapping[str, Json] = field(default_factory=dict)
    preprocessing: Mapping[str, Json] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    untrained: bool = False


@dataclass(frozen=True)
class SourceOptions:
    """What a user may say about a source; shapes are without the batch axis."""

    weights: str | None = None
    classes: int | None = None
    input_shape: tuple[int | None, ...] | None = None
    logits: bool = False
    seed: int = 0
    trust: bool = False
    custom_objects: tuple[str, ...] = ()
    builder: str | None = None
    kwargs: Mapping[str, Json] = field(default_factory=dict)
