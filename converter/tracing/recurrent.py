"""Recurrent layers in the trace: LSTM, GRU and SimpleRNN as one node each, all other cells as a loop of whole tensors.

Such a node is a call of a function whose body is the loop, and whose attribute says what it computes (`Recurrent`). A
runtime without the operator runs the body; a format that has it, as ONNX has LSTM, GRU and RNN, replaces the call. The
arithmetic of the body is that of Keras's own cell.

The node sees a sequence whose valid steps come first. A mask may leave out any step: what is left is moved together
before the node, and spread again after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from converter.core.errors import ConversionError
from converter.core.foreign import DType, KerasLayer, KerasModel, Tensor
from converter.tracing.convolutional_lstm import convolutional_steps
from converter.tracing.loops import UNROLLED, Mask, Steps, iterate, swapped
from converter.tracing.masks import Moved
from converter.tracing.recurrent_operator import Recurrent, operator_of

WEIGHTS = "kernel", "recurrent_kernel", "bias"

CLOSED = 1e4
"""What is subtracted within a sigmoid so that it is 0, and added so that it is 1"""

STEPS = "recurrent_steps"
"""The name, in the scope of a layer, of the node whose values enter its loop, shape (steps, batch, ...)"""


@contextmanager
def whole_sequences(model: KerasModel) -> Iterator[None]:
    """Within the context, recurrent layers of `model` are traced as described above.

    Raises ConversionError for a layer that keeps its state from one call to the next.
    """
    import keras

    changed = []
    flatten = getattr(model, "_flatten_layers", None)
    for layer in flatten() if flatten else ():
        if not isinstance(layer, keras.layers.RNN) or "inner_loop" in layer.__dict__:
            continue
        if layer.stateful:
            raise ConversionError(
                f"{layer.name} ({type(layer).__name__}): with stateful=True it keeps its state from one call to the "
                "next, which no file can\nbuild it with return_state=True, and make its states inputs and outputs"
            )
        layer.__dict__.update(_replaced(layer))
        layer.__dict__["_maybe_config_dropout_masks"] = lambda *arguments: None  # they would draw random numbers
        changed.append(layer)
    try:
        yield
    finally:
        for layer in changed:
            for name in ("inner_loop", "get_initial_state", "_maybe_config_dropout_masks"):
                del layer.__dict__[name]


def _replaced(layer: KerasLayer) -> dict[str, object]:
    """The methods of a `keras.layers.RNN` that are replaced."""
    import keras
    import tensorflow as tf

    initial = layer.get_initial_state
    zeros = type(layer).get_initial_state is keras.layers.RNN.get_initial_state
    drawn: list[bool] = []

    def get_initial_state(batch_size: Tensor) -> list[Tensor]:
        drawn.append(zeros)
        return list(initial(batch_size=batch_size))

    def inner_loop(
        sequences: Tensor, initial_state: object, mask: object, training: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        unset = bool(drawn and drawn.pop())
        nested = initial_state if keras.tree.is_nested(initial_state) else [initial_state]
        masks = [each for each in keras.tree.flatten(mask) if each is not None]
        keep = _mask_of(layer, masks[0], sequences) if masks else None
        operator = operator_of(layer, keep is not None, unset)
        inputs = tf.identity(swapped(sequences), name=STEPS)
        if operator is None or layer.unroll:
            last, outputs, final = _as_loop(layer, inputs, nested, keep, unset)
        else:
            last, steps, final = _as_node(layer, operator, inputs, keras.tree.flatten(nested), keep)
            outputs = None if steps is None else swapped(steps)
        whole = last[:, None] if outputs is None else outputs
        if outputs is not None and operator is not None and layer.go_backwards and not layer.unroll:
            whole = tf.reverse(whole, [1])
        return last, whole, keras.tree.pack_sequence_as(nested, final)

    return {"get_initial_state": get_initial_state, "inner_loop": inner_loop}


def _mask_of(layer: KerasLayer, mask: Tensor, sequences: Tensor) -> Tensor:
    """`mask` as truth values, shape (batch, steps). Raises ValueError, which names the layer, for another shape."""
    import tensorflow as tf

    keep = tf.cast(mask, tf.bool)
    if not keep.shape[:2].is_compatible_with(sequences.shape[:2]) or keep.shape.rank != 2:
        raise ValueError(
            f"{layer.name}: a mask of shape {tuple(keep.shape)} for steps of shape {tuple(sequences.shape)}; "
            "it must have shape (batch, steps)"
        )
    return keep


def _as_loop(
    layer: KerasLayer, inputs: Tensor, states: object, keep: Tensor | None, unset: bool
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """A loop over the layer's cell: last output, outputs of shape (batch, steps, ...), states.

    `inputs` have shape (steps, batch, ...), `keep` (batch, steps).

    `unset`: the states are the zeros that the layer begins with.
    """
    import keras
    import tensorflow as tf

    keep = None if keep is None else tf.transpose(tf.reshape(keep, tf.shape(keep)[:2]))
    if layer.go_backwards:
        inputs = tf.reverse(inputs, [0])
        keep = None if keep is None else tf.reverse(keep, [0])
    mask = None if keep is None else Mask(keep, layer.zero_output_for_mask)
    known = inputs.shape[0] is not None and inputs.shape[0] > 0
    unroll = known and (layer.unroll or inputs.shape[0] <= UNROLLED)
    with _variables_outside(layer.cell):
        zeros = keras.tree.flatten(states) if unset else []
        whole = convolutional_steps(layer.cell, inputs, unroll, zeros)
        step, inputs = whole if whole is not None else (_step(layer.cell, states), inputs)
        found = iterate(step, inputs, keras.tree.flatten(states), layer.return_sequences, mask, unroll)
    outputs = found.outputs if found.swapped or found.outputs is None else swapped(found.outputs)
    return found.last, outputs, found.states


def _step(cell: KerasLayer, states: object) -> Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]:
    """One step of `cell`, for inference; `states` shows how its states are nested."""
    import keras

    arguments = {"training": False} if getattr(cell, "_call_has_training_arg", False) else {}

    def step(given: Tensor, flat: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        output, new = cell(given, keras.tree.pack_sequence_as(states, flat), **arguments)
        return output, keras.tree.flatten(new)

    return step


@contextmanager
def _variables_outside(cell: KerasLayer) -> Iterator[None]:
    """Within the context, `cell` reads tensors and not variables: a loop then takes its weights as plain inputs."""
    import keras
    import tensorflow as tf

    values = [(variable, tf.convert_to_tensor(variable.value)) for variable in getattr(cell, "variables", ())]
    with keras.StatelessScope(state_mapping=values):
        yield


def _as_node(
    layer: KerasLayer, operator: Recurrent, inputs: Tensor, states: Sequence[Tensor], keep: Tensor | None
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """A node that computes `operator`, and what a mask needs around it: the outputs stand where their inputs do."""
    import tensorflow as tf

    moved = None if keep is None else Moved.of(keep, layer.go_backwards)
    cell = layer.cell
    weights = [tf.convert_to_tensor(getattr(cell, name).value) for name in WEIGHTS[: 3 if operator.bias else 2]]
    if moved is not None:
        inputs = moved.gathered(inputs)
        if layer.return_state and operator.states > 1:
            inputs = tf.concat([inputs, moved.left_out(inputs.dtype)], axis=2)
            weights[0] = tf.concat([weights[0], _keeping(operator, weights[0].dtype)], axis=0)
    arguments = [inputs, *states[: operator.given], *weights]
    call = tf.function(
        lambda *tensors: _body(operator, cell, tensors),
        autograph=False,
        experimental_implements=operator.text,
    ).get_concrete_function(*[tf.TensorSpec(each.shape, each.dtype) for each in arguments])
    results = [tf.ensure_shape(found, known.shape) for found, known in zip(call(*arguments), call.outputs, strict=True)]
    outputs = results.pop(0) if operator.sequence else None
    if moved is None or outputs is None:
        return results[0], outputs, results
    last = moved.last(outputs, tf.zeros_like(states[0]))
    hidden = moved.last(outputs, states[0])
    spread = moved.spread(outputs, layer.zero_output_for_mask) if layer.return_sequences else None
    return last, spread, [hidden, *results[1:]]


@contextmanager
def _weights_as(cell: KerasLayer, tensors: Sequence[Tensor]) -> Iterator[None]:
    """Within the context, `cell` computes with `tensors` as its weights; a kernel may have more rows than its own."""
    before = {name: cell.__dict__[name] for name in WEIGHTS[: len(tensors)]}
    cell.__dict__.update(zip(WEIGHTS, tensors, strict=False))
    try:
        yield
    finally:
        cell.__dict__.update(before)


def _keeping(operator: Recurrent, dtype: DType) -> Tensor:
    """A row of an LSTM's kernel that closes its input gate and opens its forget gate: the carry stays as it is.

    For a feature that is 1 at steps that do not count, and 0 elsewhere. With sigmoid(-1e4) = 0 and sigmoid(1e4) = 1 in
    float32, c = 1 c + 0 is exact.
    """
    import numpy as np
    import tensorflow as tf

    gates = np.repeat([-CLOSED, CLOSED, 0.0, 0.0], operator.units)[None]
    return tf.constant(gates, dtype)


def _body(operator: Recurrent, cell: KerasLayer, tensors: Sequence[Tensor]) -> list[Tensor]:
    """What `operator` computes, as a loop over Keras's own cell."""
    import tensorflow as tf

    inputs, states = tensors[0], list(tensors[1 : 1 + operator.given])
    if not states:
        states = [tf.zeros([tf.shape(inputs)[1], operator.units], inputs.dtype)] * operator.states
    if operator.reverse:
        inputs = tf.reverse(inputs, [0])
    with _weights_as(cell, tensors[1 + operator.given :]):
        found: Steps = iterate(_step(cell, states), inputs, states, operator.sequence)
    if not operator.sequence:
        return found.states
    return [tf.reverse(found.outputs, [0]) if operator.reverse else found.outputs, *found.states]
