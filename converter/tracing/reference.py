"""The reference: Keras's own outputs, the same model in float32 and float64 as a graph, and the negative controls.

`measured` runs the model as its author wrote it, before any rewrite. Comparing is the work of
`converter.proof.comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from converter.core.data import Array, Arrays, Golden, TensorSpec, first_samples
from converter.core.distance import FLOAT32
from converter.core.effort import Effort
from converter.core.errors import ConversionError, InputError
from converter.core.foreign import KerasModel, KerasVariable
from converter.core.sketch import SAMPLES
from converter.core.text import reason_of
from converter.tracing import layer_ends
from converter.tracing.layer_ends import LayerEnd
from converter.tracing.rounding import Effect, FirstRuns, Graph, Rounding, in_float64
from converter.tracing.running import CannotRunError, running
from converter.tracing.signature import Signature
from converter.tracing.state import predict_once
from converter.tracing.trace import trace
from converter.tracing.widening import as_single
from converter.tracing.wrong_answers import Subject, wrong_answers


@dataclass(frozen=True)
class Plan:
    """How much to measure: the `effort` for samples, and with `layers` the ends of the layers.

    `announce` is called with a forecast of the proof's seconds of inference, before most of them pass. `others` are
    inputs of other sizes; the first ones that Keras accepts are measured too.
    """

    effort: Effort = field(default_factory=Effort)
    layers: bool = True
    announce: Callable[[float], None] = lambda seconds: None
    others: Sequence[Arrays] = ()


PLAN = Plan()


def predict(model: KerasModel, signature: Signature, inputs: Arrays) -> dict[str, Array]:
    """The outputs of `model.predict` by name; half precision becomes float32.

    Inputs are by name too, shape (samples, ...), and all samples are one batch, or fill batches of the model's fixed
    size. Raises InputError where Keras cannot run the model: a name that TensorFlow refuses, too little memory, an
    error in a layer's code, an output without the samples on its first axis.
    """
    import keras

    flat = [inputs[spec.name] for spec in signature.inputs]
    count, fixed = len(flat[0]), signature.inputs[0].shape[0]
    if fixed:
        flat = [np.resize(array, (-(-count // fixed) * fixed, *array.shape[1:])) for array in flat]
    try:
        outputs = predict_once(model, signature.pack(flat), fixed or count)
    except Exception as error:  # the user's own layers run here and may raise anything
        raise InputError(
            f"{model.name}: Keras cannot run the model: {reason_of(error)}\n"
            "fix it so that model.predict runs; --debug shows where the error occurs"
        ) from error
    arrays = [as_single(np.asarray(array)) for array in keras.tree.flatten(outputs)]
    for spec, array in zip(signature.outputs, arrays, strict=True):
        if array.shape[:1] != (len(flat[0]),):
            raise InputError(
                f"{model.name}: output {spec.name} has shape {array.shape} for {len(flat[0])} samples\n"
                "the first axis of every output must be the batch"
            )
    return {spec.name: array[:count] for spec, array in zip(signature.outputs, arrays, strict=True)}


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

    `finish` waits for it and returns the result; `close` ends it without one.
    """

    finish: Callable[[], Measured]
    close: Callable[[], None]


def measured(model: KerasModel, signature: Signature, inputs: Arrays, effect: Effect, plan: Plan = PLAN) -> Measured:
    """The golden arrays for `inputs`, shape (samples, ...) by name: references, float64, controls; and layers' ends.

    The float64 outputs are the traced graph in float64, operator by operator, with float32 weights; there are none
    where TensorFlow has no float64 kernel for an operator. The float32 outputs of the same graph are those of the batch
    size at which their rounding error is largest: one sample, the first samples, all of them. The ends are sketches of
    each layer's activations for the first samples; there are none where the model cannot be traced or run as a graph.
    The model's weights are bit for bit the same afterwards. Raises what `predict` raises.
    """
    return begin(model, signature, inputs, effect, plan).finish()


def begin(model: KerasModel, signature: Signature, inputs: Arrays, effect: Effect, plan: Plan = PLAN) -> Measuring:
    """Begin what `measured` returns: everything that Keras has to do, in the calling thread, is done when it returns.

    But for inputs of other sizes, which `finish` predicts. Raises what `predict` raises.
    """
    try:
        traced = trace(model, signature, fold=False)
    except ConversionError:
        done = _without_graph(model, signature, inputs, effect)
        return Measuring(lambda: done, lambda: None)
    ends = layer_ends.find(traced) if plan.layers else ()
    with ExitStack() as stack:
        single = stack.enter_context(running(traced, signature, ends))
        double = stack.enter_context(running(traced, signature, ends, double=True))
        graph = Graph(traced, signature, single, double, effect, ends)
        try:
            runs = FirstRuns.of(graph, inputs)
        except CannotRunError:
            outputs, half = tuple(traced.outputs.values()), traced.half
            found = replace(_without_graph(model, signature, inputs, effect), outputs=outputs, half=half)
            done = replace(found, precision=_precision(half, False))
            return Measuring(lambda: done, lambda: None)
        count = plan.effort.chosen(runs.seconds)
        plan.announce(plan.effort.forecast(count, runs.seconds))
        inputs = first_samples(inputs, count)
        pool = stack.enter_context(ThreadPoolExecutor(1))
        pending = pool.submit(_in_background, graph, inputs, plan.effort, runs)
        references = predict(model, signature, inputs)
        later = stack.pop_all()

    def finish() -> Measured:
        with later:
            return _finished(graph, model, plan, Golden(inputs, references, {}, {}), pending.result())

    return Measuring(finish, later.close)


Background = tuple[Rounding, dict[str, Array], dict[str, dict[str, Array]]]
"""The rounding, the float32 outputs that the noise is taken from, and the controls."""


def _finished(graph: Graph, model: KerasModel, plan: Plan, golden: Golden, background: Background) -> Measured:
    """The result, from its parts; `golden` has the inputs and Keras's outputs."""
    traced, (rounding, single, controls) = graph.traced, background
    references, exact = golden.references, rounding.exact
    keras: Arrays = {}
    if traced.half and exact:
        keras, references = references, _as_references(in_float64(graph.double(golden.inputs)[0]), references)
    if not exact or all(np.array_equal(array, references[name][: len(array)]) for name, array in single.items()):
        single = {}  # the same arrays need not be stored twice
    other = next((found for each in plan.others if (found := _resized(graph, model, each)) is not None), None)
    return Measured(
        golden=Golden(golden.inputs, references, exact, controls, single, other),
        ends=rounding.ends(graph.ends),
        outputs=tuple(traced.outputs.values()),
        half=traced.half,
        mixes=rounding.mixes,
        keras=keras,
        precision=_precision(traced.half, bool(exact)),
    )


def _in_background(graph: Graph, inputs: Arrays, effort: Effort, runs: FirstRuns) -> Background:
    """What needs only the graph, and not Keras."""
    traced, signature = graph.traced, graph.signature
    rounding = Rounding.of(graph, inputs, effort, runs)
    few = effort.few(len(next(iter(inputs.values()))))
    single = rounding.worst(graph, inputs, few)
    asked = inputs if rounding.mixes else first_samples(inputs, 1 if few else SAMPLES)
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
    return rounding, single, wrong_answers(subject)


def _without_graph(model: KerasModel, signature: Signature, inputs: Arrays, effect: Effect) -> Measured:
    """What Keras alone can answer: references and controls."""
    references = predict(model, signature, inputs)
    first = first_samples(inputs, SAMPLES)
    controls = _asking_keras(model, signature, first, references, effect)
    return Measured(Golden(inputs, references, {}, controls), (), signature.outputs)


def _precision(half: str, exact: bool) -> str:
    """The row of the tolerances: half precision only where there is no float64 to compare with."""
    return "float16" if half and not exact else "float32"


def _resized(graph: Graph, model: KerasModel, inputs: Arrays) -> Golden | None:
    """The golden arrays for inputs of another size, without controls; None where Keras refuses that size."""
    try:
        with _compiled_apart(model):
            references = predict(model, graph.signature, inputs)
        found = Rounding.of(graph, inputs, PLAN.effort, FirstRuns.of(graph, inputs))
    except (InputError, CannotRunError):
        return None
    if graph.traced.half and found.exact:
        references = _as_references(found.exact, references)
    return Golden(inputs, references, found.exact, {}, found.worst(graph, inputs, few=False))


@contextmanager
def _compiled_apart(model: KerasModel) -> Iterator[None]:
    """Within the context, `model` is compiled anew: traced for two sizes, Keras's own function may work for neither."""
    model.predict_function = None
    try:
        yield
    finally:
        model.predict_function = None


def _needed(effect: Effect, spec: TensorSpec, rounded: Arrays, exact: Arrays) -> float:
    """The effect from which a control of an output counts: twice its tolerance; 0 where it is not floating point."""
    if not spec.dtype.startswith("float"):
        return 0.0
    size = effect(spec, exact[spec.name], rounded[spec.name]) if exact else 0.0
    return 2 * FLOAT32.bound(size if np.isfinite(size) else 0.0)


def _as_references(exact: Arrays, like: Arrays) -> dict[str, Array]:
    return {name: exact[name].astype(array.dtype) for name, array in like.items()}


def _asking_keras(
    model: KerasModel, signature: Signature, first: Arrays, references: Arrays, effect: Effect
) -> dict[str, dict[str, Array]]:
    """The controls of a model that cannot be run as a graph, from its own predictions."""
    variables = {each.path: each for each in model.variables if len(each.shape) > 1 and "float" in str(each.dtype)}

    def answer(inputs: Arrays, changed: Mapping[str, Array]) -> dict[str, Array]:
        with _assigned([(variables[name], array) for name, array in changed.items()]):
            return predict(model, signature, inputs)

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
