"""The data of the line, from the source to the outputs of a runtime.

source -> Rewritten -> Traced -> Artifact -> outputs. The results of comparing outputs are in `converter.core.results`.
All classes are frozen dataclasses, built from the standard library and numpy, with no logic except properties of their
own fields.
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
Shape = tuple[int | None, ...]
"""Sizes by axis; None is any"""
ShapesByInput = Mapping[str, Shape]
Activation = Literal["softmax", "sigmoid", "linear"]
Verdict = Literal["pass", "fail", "inconclusive"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model, under its Keras name.

    `shape` starts with the batch axis; None marks a dynamic size. `layout` is "nhwc" or "nchw", or "" if the tensor is
    not a batch of images. `activation` is the final activation of an output and selects the domain of the comparison.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    layout: str = ""
    activation: Activation = "linear"


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a Keras model, in the model's order; names are unique on each side."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def by_output(self) -> dict[str, TensorSpec]:
        """The outputs by name."""
        return {spec.name: spec for spec in self.outputs}


@dataclass(frozen=True)
class RuleResult:
    """The result of one rewrite rule at one place: `applied`, or declined with a `reason`."""

    rule: str
    layer: str
    applied: bool
    reason: str = ""


@dataclass(frozen=True)
class Rewritten:
    """A Keras model after the rewrites. `model` is the input model itself if no rule was applied.

    `on_purpose` is True if a rule changed the function because the user asked for it.
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

    `graph_def` has a Placeholder for every model input and for every key of `weights`; small tensors stay in it as
    constants. `inputs` and `outputs` are keyed by graph node name (an output node is an Identity with the Keras name).
    Every array of `weights` has the dtype and shape of its placeholder.
    """

    graph_def: GraphDef
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    weights: Mapping[str, Array]
    layers: Mapping[str, str] = field(default_factory=dict)  # class name by Keras layer name
    half: str = ""  # "float16", "bfloat16" or "float64" if Keras computes in it; the graph is float32
    warnings: tuple[str, ...] = ()  # what the graph leaves out of the model
    about: Mapping[str, Json] = field(default_factory=dict)  # "preprocessing" and "labels", written into artifacts


@dataclass(frozen=True)
class WriteOptions:
    """Options for writing an artifact. With `batch` None the batch axis stays dynamic."""

    batch: int | None = None
    opset: int = 17
    layout: Literal["nhwc", "nchw"] = "nhwc"


@dataclass(frozen=True)
class Artifact:
    """A written file or directory. `path` is relative to the artifact directory; `operators` is its operator histogram.

    `inputs` and `outputs` describe the file: `layout` and a fixed batch size may differ from the Keras model.
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
    """An output format. `write(traced, directory, options)` writes an artifact into `directory` and returns it.

    `text` is True if its inputs may be strings.
    """

    name: str
    filename: str
    write: Callable[[Traced, Path, WriteOptions], Artifact]
    text: bool = False


@dataclass(frozen=True)
class Prepared:
    """A loaded artifact. `run` maps inputs by name to outputs by name; `facts` are copied into the report."""

    run: Callable[[Arrays], dict[str, Array]]
    facts: Mapping[str, Json] = field(default_factory=dict)


Watched = Callable[[Arrays], Iterable[tuple[str, Array]]]
"""One run that also yields intermediate tensors: takes the inputs by name and yields pairs (name, tensor)."""


@dataclass(frozen=True)
class Runtime:
    """A library that runs artifacts.

    `unavailable(device)` returns the reason why it cannot run here, or None. `prepare(path, artifact, device)` loads
    the file `path` and checks that its names are those of `artifact`. `tensors(path, artifact, device, wanted,
    at_once)` loads it so that the tensors `wanted` (None: all) and the outputs can be read. It yields one or more
    `Watched`, each for about `at_once` different tensors. `tensors` is None if the library gives no access to
    intermediate tensors. `warm` imports the library, None if `unavailable` does.
    """

    name: str
    reads: tuple[str, ...]
    devices: tuple[str, ...]
    version: Callable[[], str | None]
    unavailable: Callable[[str], str | None]
    prepare: Callable[[Path, Artifact, str], Prepared]
    tensors: Callable[[Path, Artifact, str, Collection[str] | None, int], Iterator[Watched]] | None = None
    warm: Callable[[], None] | None = None


@dataclass(frozen=True)
class Golden:
    """The arrays that prove the artifacts, stored beside them: by name, each with the sample axis first.

    `references` are Keras's float32 outputs. `exact` are the outputs of the same model in float64 (empty if it could
    not be built) and `single` those of the same graph in float32 (empty if they equal `references`), both for the first
    samples only. `controls` are the outputs of the negative controls by control name, for the first samples too.
    `resized` has the arrays for inputs of another size, without controls, if the model has dynamic sizes.
    """

    inputs: Mapping[str, Array]
    references: Mapping[str, Array]
    exact: Mapping[str, Array]
    controls: Mapping[str, Mapping[str, Array]]
    single: Mapping[str, Array] = field(default_factory=dict)
    resized: Golden | None = None

    @property
    def samples(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    @property
    def rounded(self) -> Mapping[str, Array]:
        """What differs from `exact` by the rounding of float32 alone: the graph in float32, else the references."""
        count = len(next(iter(self.exact.values()), ()))
        return self.single or first_samples(self.references, count)


def first_samples(arrays: Arrays, count: int) -> dict[str, Array]:
    """The first `count` samples of each array, by name; the samples are on the first axis."""
    return {name: array[:count] for name, array in arrays.items()}


def float64(array: Array) -> npt.NDArray[np.float64]:
    """`array` as float64, shape unchanged."""
    return np.asarray(array, dtype=np.float64)


@dataclass(frozen=True)
class Source:
    """A loaded model and its origin.

    `name` is valid as a directory name. `kind` is "zoo", "file", "keras" or "function". `detail` is copied into the
    manifest (path, sha256, builder, ...). `repairs` lists the changes that an older file needed to load. `untrained`
    marks seeded and calibrated weights. `preprocessing` has the value range of valid inputs under "range".
    """

    model: KerasModel
    name: str
    kind: str
    detail: Mapping[str, Json] = field(default_factory=dict)
    preprocessing: Mapping[str, Json] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    untrained: bool = False


@dataclass(frozen=True)
class SourceOptions:
    """Options for loading a source; shapes are without the batch axis: of the only input, or by the input's name."""

    weights: str | None = None
    classes: int | None = None
    input_shape: Shape | ShapesByInput | None = None
    logits: bool = False
    seed: int = 0
    trust: bool = False
    custom_objects: tuple[str, ...] = ()
    builder: str | None = None
    kwargs: Mapping[str, Json] = field(default_factory=dict)
