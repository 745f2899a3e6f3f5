"""The reference: Keras's own outputs, the same model in float32 and float64 as a graph, and the negative controls.

`measured` runs the model as its author wrote it, before any rewrite. Comparing is the work of
`converter.proof.comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from converter.core.data import Array, Arrays, Golden, TensorSpec, first_samples
from converter.core.distance import FLOAT32
from converter.core.effort import Effort
from converter.core.errors import ConversionError, InputError
from converter.core.foreign import KerasModel, KerasVariable
from converter.core.sketch import SAMPLES
from converter.tracing import layer_ends
from converter.tracing.layer_ends import LayerEnd
from converter.tracing.prediction import Prediction
from converter.tracing.rounding import Effect, FirstRuns, Graph, Rounding, completed
from converter.tracing.running import CannotRunError, running
from converter.tracing.sequence_controls import sequence_controls
from converter.tracing.signature import Signature
from converter.tracing.trace import trace
from converter.tracing.widening import HALVES
from converter.tracing.wrong_answers import Subject, wrong_answers


@dataclass(frozen=True)
class Plan:
    """How much to measure: the `effort` for samples, and with `layers` the ends of the layers.

    `announce` is called with a forecast of the proof's seconds of inference, before most of them pass. `others` are
    inputs of other sizes; the first ones that Keras accepts are measured too. `meanwhile` is called while TensorFlow
    runs its graph for the first time.
    """

    effort: Effort = field(default_factory=Effort)
    layers: bool = True
    announce: Callable[[float], None] = lambda seconds: None
    others: Sequence[Arrays] = ()
    meanwhile: Callable[[], object] = lambda: None


PLAN = Plan()


@dataclass(frozen=True)
class Measured:
    """The golden arrays of a model, the ends of its layers, and its outputs with the activation that each ends in.

    `half` is "float16" or "bfloat16" if Keras computes in it. Then the references are float64's, in float32, and
    `keras` are Keras's own outputs. `precision` is the row of the tolerances of the references. The activations are
    "linear" if the model could not be traced. `mixes` is True if a sample's output depends on the other samples of its
    batch.
    """

    golden: Golden
    ends: tuple[LayerEnd, ...]
    outputs: tuple[TensorSpec, ...]
    half: str = ""
    mixes: bool = False
    keras: Mapping[str, Array] = field(default_factory=dict)
    precision: str = "float32"

    @property
    def by_output(self) -> dict[str, TensorSpec]:
        """The outputs by name."""
        return {spec.name: spec for spec in self.outputs}

    @property
    def own(self) -> Measured:
        """The same with Keras's own outputs as the references, in half precision too: compared as values."""
        if not self.keras:
            return self
        outputs = tuple(replace(spec, activation="linear") for spec in self.outputs)
        golden = replace(self.golden, references=self.keras, single={})
        return replace(self, golden=golden, outputs=outputs, precision="float16")


@dataclass(frozen=True)
class Measuring:
    """A measurement that has begun: TensorFlow runs the graph on a thread while the caller does something else.

    `inputs` are those of the result, `ends` the ends of its layers without their noise. `finish` waits for the rest and
    returns the result; `close` ends it without one. `weights` is the size of the model's weights in bytes, and `wait`
    only waits: float64 takes twice as much memory, which a caller may not want to need at the same time as its own.
    `forecast` is about how many seconds of inference the proof takes.
    """

    inputs: Arrays
    ends: tuple[LayerEnd, ...]
    finish: Callable[[], Measured]
    close: Callable[[], None]
    weights: int = 0
    forecast: float = 0.0
    wait: Callable[[], object] = lambda: None


def measured(model: KerasModel, signature: Signature, inputs: Arrays, effect: Effect, plan: Plan = PLAN) -> Measured:
    """The golden arrays for `inputs`, shape (samples, ...) by name: references, float64, controls; and layers' ends.

    The float64 outputs are the traced graph in float64, operator by operator, with float32 weights; there are none
    where TensorFlow has no float64 kernel for an operator. The float32 outputs of the same graph are those of the batch
    size at which their rounding error is largest: one sample, the first samples, all of them. The ends are sketches of
    each layer's activations for the first samples; there are none where the model cannot be traced or run as a graph.
    The model's weights are bit for bit the same afterwards. Raises what a `Prediction` raises.
    """
    return begin(model, signature, inputs, effect, plan).finish()


def begin(model: KerasModel, signature: Signature, inputs: Arrays, effect: Effect, plan: Plan = PLAN) -> Measuring:
    """Begin what `measured` returns: when it does, Keras's own outputs are known, and the code of its layers has run.

    But for inputs of other sizes, which `finish` predicts. Both raise what a `Prediction` raises.
    """
    try:
        traced = trace(model, signature, fold=False)
    except ConversionError:
        return _done(_without_graph(model, signature, inputs, effect))
    ends = layer_ends.find(traced) if plan.layers else ()
    with ExitStack() as stack:
        single = stack.enter_context(running(traced, signature, ends))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        first = pool.submit(FirstRuns.of, single, inputs)
        double = stack.enter_context(running(traced, signature, ends, double=True))
        stack.callback(pool.shutdown)  # before a session that it uses is closed
        graph, keras = Graph(traced, signature, single, double, effect, ends), Prediction(model, signature, once=True)
        plan.meanwhile()
        try:
            runs = first.result()
        except CannotRunError:
            outputs, half = tuple(traced.outputs.values()), traced.half
            found = replace(_without_graph(model, signature, inputs, effect), outputs=outputs, half=half)
            return _done(replace(found, precision=_precision(half, False)))
        count = plan.effort.chosen(runs.seconds)
        forecast = plan.effort.forecast(count, runs.seconds)
        plan.announce(forecast)
        inputs = first_samples(inputs, count)
        pending = pool.submit(_in_background, graph, inputs, plan.effort, runs)
        references = keras(inputs)
        later = stack.pop_all()

    def finish() -> Measured:
        with later:
            golden = Golden(inputs, references, {}, {})
            return _finished(graph, keras, plan, golden, pending.result())

    return Measuring(
        inputs,
        layer_ends.measured(ends, runs.watched, ()),
        finish,
        later.close,
        sum(array.nbytes for array in traced.weights.values()),
        forecast,
        lambda: wait([pending]),
    )


def _done(found: Measured) -> Measuring:
    return Measuring(found.golden.inputs, (), lambda: found, lambda: None)


Background = tuple[Rounding, dict[str, Array], dict[str, dict[str, Array]]]
"""The rounding, the float32 outputs that the noise is taken from, and the controls."""


def _finished(graph: Graph, keras: Prediction, plan: Plan, golden: Golden, background: Background) -> Measured:
    """The result, from its parts; `golden` has the inputs and Keras's outputs."""
    traced, (rounding, single, controls) = graph.traced, background
    references, exact = golden.references, rounding.exact
    own: Arrays = {}
    if traced.half and exact:
        own, references = references, _as_references(completed(graph, golden.inputs, exact), references)
    if not exact or all(np.array_equal(array, references[name][: len(array)]) for name, array in single.items()):
        single = {}  # the same arrays need not be stored twice
    other = next((found for each in plan.others if (found := _resized(graph, keras, each)) is not None), None)
    return Measured(
        golden=Golden(golden.inputs, references, exact, controls, single, other),
        ends=rounding.ends(graph.ends),
        outputs=tuple(traced.outputs.values()),
        half=traced.half,
        mixes=rounding.mixes,
        keras=own,
        precision=_precision(traced.half, bool(exact)),
    )


def _in_background(graph: Graph, inputs: Arrays, effort: Effort, runs: FirstRuns) -> Background:
    """What needs only the graph, and not Keras."""
    traced, signature = graph.traced, graph.signature
    rounding = Rounding.of(graph, inputs, effort, runs)
    heavy = effort.heavy(runs.seconds)
    single = rounding.worst(graph, inputs, heavy)
    asked = inputs if rounding.mixes else first_samples(inputs, 1 if heavy else SAMPLES)
    count = len(next(iter(asked.values())))
    subject = Subject(
        answer=lambda given, changed: graph.single(given, changed)[0],
        inputs=asked,
        specs=signature.inputs,
        reference=first_samples(rounding.base, count),
        kernels=graph.kernels,
        effect=lambda name, one, other: graph.effect(traced.outputs[name], one, other),
        needed={spec.name: _needed(graph.effect, spec, single, rounding.exact) for spec in traced.outputs.values()},
    )
    return rounding, single, {**wrong_answers(subject), **sequence_controls(graph, subject)}


def _without_graph(model: KerasModel, signature: Signature, inputs: Arrays, effect: Effect) -> Measured:
    """What Keras alone can answer: references and controls."""
    keras = Prediction(model, signature)
    references = keras(inputs)
    controls = _asking_keras(keras, first_samples(inputs, SAMPLES), references, effect)
    return Measured(Golden(inputs, references, {}, controls), (), signature.outputs)


def _precision(half: str, exact: bool) -> str:
    """The row of the tolerances: half precision only where there is no float64 to compare with."""
    return "float16" if half in HALVES and not exact else "float32"


def _resized(graph: Graph, keras: Prediction, inputs: Arrays) -> Golden | None:
    """The golden arrays for inputs of another size, without controls; None where Keras refuses that size."""
    try:
        references = keras(inputs)
        found = Rounding.of(graph, inputs, PLAN.effort, FirstRuns.of(graph.single, inputs))
    except (InputError, CannotRunError):
        return None
    if graph.traced.half and found.exact:
        references = _as_references(completed(graph, inputs, found.exact), references)
    return Golden(inputs, references, found.exact, {}, found.worst(graph, inputs, heavy=False))


def _needed(effect: Effect, spec: TensorSpec, rounded: Arrays, exact: Arrays) -> float:
    """The effect from which a control of an output counts: twice its tolerance; 0 where it is not floating point."""
    if not spec.dtype.startswith("float"):
        return 0.0
    size = effect(spec, exact[spec.name], rounded[spec.name]) if exact else 0.0
    return 2 * FLOAT32.bound(size if np.isfinite(size) else 0.0)


def _as_references(exact: Arrays, like: Arrays) -> dict[str, Array]:
    return {name: exact[name].astype(array.dtype) for name, array in like.items()}


def _asking_keras(keras: Prediction, first: Arrays, references: Arrays, effect: Effect) -> dict[str, dict[str, Array]]:
    """The controls of a model that cannot be run as a graph, from its own predictions."""
    model, signature = keras.model, keras.signature
    variables = {each.path: each for each in model.variables if len(each.shape) > 1 and "float" in str(each.dtype)}

    def answer(inputs: Arrays, changed: Mapping[str, Array]) -> dict[str, Array]:
        with _assigned([(variables[name], array) for name, array in changed.items()]):
            return keras(inputs)

    return wrong_answers(
        Subject(
            answer=answer,
            inputs=first,
            specs=signature.inputs,
            reference=first_samples(references, SAMPLES),
            kernels={name: np.asarray(each.numpy()) for name, each in variables.items()},
            effect=lambda name, one, other: effect(signature.interface.by_output[name], one, other),
            needed={name: 2 * FLOAT32.floor if array.dtype.kind == "f" else 0.0 for name, array in references.items()},
        )
    )


@contextmanager
def _assigned(values: Sequence[tuple[KerasVariable, Array]]) -> Iterator[None]:
    """Within the context, the variables have these values."""
    before = [(variable, np.asarray(variable.numpy())) for variable, _ in values]
    try:
        for variable, array in values:
            variable.assign(array)
        yield
    finally:
        for variable, array in before:
            variable.assign(array)
