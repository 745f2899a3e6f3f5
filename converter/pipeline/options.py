"""The options of exports, rewrites, proofs and sources; `converter.pipeline.arguments` checks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Literal, TypedDict

from converter.core.data import Shape, ShapesByInput, SourceOptions, WriteOptions
from converter.core.effort import Effort
from converter.core.foreign import Json, KerasModel
from converter.core.limits import Limits
from converter.core.precision import Method, PrecisionOptions, Target
from converter.core.samples import InputOptions
from converter.report.baseline import Baseline

PathText = str | PathLike[str]
ModelOrPath = KerasModel | PathText
Groups = Literal["preserve", "as-written"]
Layout = Literal["nhwc", "nchw"]


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export. `formats` are names in `converter.formats.FORMATS`; empty means all.

    `output` is the artifact directory, by default artifacts/<name>. With `force`, an export of another source in the
    default directory is replaced; a directory given as `output` is replaced without it. `samples` None: eight, or as
    many as fit into `budget` seconds of inference, at least three. `limits` are those of each child process.
    """

    formats: tuple[str, ...] = ()
    output: Path | None = None
    write: WriteOptions = field(default_factory=WriteOptions)
    source: SourceOptions = field(default_factory=SourceOptions)
    device: str = "cpu"
    tolerance: float | None = None
    samples: int | None = None
    groups: Groups = "preserve"
    baseline: Baseline | None = None
    force: bool = False
    inputs: InputOptions = field(default_factory=InputOptions)
    budget: float = Effort.seconds
    preprocessing: str | None = None
    labels: str | None = None
    embed_preprocessing: bool = False
    precision: PrecisionOptions = field(default_factory=PrecisionOptions)
    limits: Limits = field(default_factory=Limits)


class SourceKeywords(TypedDict, total=False):
    """The options of a source: the keywords of `converter.load`, and of every function that takes a model."""

    weights: PathText | None
    classes: int | None
    input_shape: Shape | ShapesByInput | None
    logits: bool
    seed: int
    trust: bool
    custom_objects: str | Iterable[str]
    builder: str | None
    kwargs: Mapping[str, Json]


class RewriteKeywords(SourceKeywords, total=False):
    """The keywords of `converter.rewrite`, one for each option of `cnnexport rewrite`."""

    groups: Groups
    simplify: bool
    force: bool
    samples: int


class ExportKeywords(SourceKeywords, total=False):
    """The keywords of `converter.export`, one for each option of `cnnexport export`."""

    formats: str | Iterable[str]
    output: PathText | None
    batch: int | None
    opset: int
    layout: Layout
    device: str
    tolerance: float | None
    samples: int | None
    budget: float
    preprocessing: PathText | None
    labels: PathText | None
    embed_preprocessing: bool
    inputs: PathText | None
    range: tuple[float, float] | None
    dynamic_size: Mapping[str, int] | None
    groups: Groups
    baseline: PathText | Baseline | None
    growth: float
    force: bool
    precision: str | Iterable[str]
    calibration: PathText | None
    calibration_method: Method
    keep_float: str | Iterable[str]
    int8_target: Target
    float16_io: bool
    memory_limit: int | str | None
    timeout: float | None


class TrainKeywords(SourceKeywords, total=False):
    """The keywords of `converter.train`, one for each option of `cnnexport train`; `classes` are those of the data."""

    output: PathText | None
    width: float
    depth: float
    epochs: int
    batch: int
    optimizer: str
    rate: float | None
    schedule: str
    patience: int
    validation: float
    test: float
    preprocessing: PathText | None
    resize: str
    resume: bool
    force: bool


class PredictKeywords(TypedDict, total=False):
    """The keywords of `converter.predict`, one for each option of `cnnexport predict`."""

    runtime: str | None
    device: str
    top: int
    output: str | None
    preprocessing: PathText | None
    labels: PathText | None
    size: tuple[int, int] | None
    heatmap: PathText | None


class EvaluateKeywords(TypedDict, total=False):
    """The keywords of `converter.evaluate`, one for each option of `cnnexport evaluate`."""

    keras: ModelOrPath | None
    runtimes: str | Iterable[str]
    subset: str | None
    limit: int | None
    max_drop: float
    confidence: float
    preprocessing: PathText | None
    labels: PathText | None
    size: tuple[int, int] | None
    device: str


class VerifyKeywords(TypedDict, total=False):
    """The keywords of `converter.verify`, one for each option of `cnnexport verify`."""

    runtimes: str | Iterable[str]
    device: str
    tolerance: float | None
    baseline: PathText | Baseline | None
    growth: float
    memory_limit: int | str | None
    timeout: float | None
    server: str
    key: PathText | None
