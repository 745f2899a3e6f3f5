"""The cell of ConvLSTM1D, 2D and 3D with one convolution of the whole sequence, and one of the state for each step.

Keras convolves the input and the state once for each of the four gates and at each step. The filters of the gates stand
side by side in its kernels, so one convolution with all of them computes the same sums.
"""

from __future__ import annotations

from collections.abc import Sequence

from converter.core.foreign import KerasLayer, Tensor
from converter.tracing.loops import Step


def convolutional_steps(
    cell: KerasLayer, inputs: Tensor, apart: bool, zeros: Sequence[Tensor] = ()
) -> tuple[Step, Tensor | list[Tensor]] | None:
    """The step of a ConvLSTMCell, and what its loop has to go through instead of `inputs`, shape (steps, batch, ...).

    If the steps stand `apart`, that is a list: a split of the batch leaves the channels where the convolution has them.

    Shi et al. (2015) without peepholes, as Keras: i, f, o = recurrent_activation(x * W + h * U + b),
    c = f c + i activation(x * W + h * U + b), h = o activation(c). None for other cells. A first step that stands alone
    has `zeros` as its states: without the convolution of them, and without what is forgotten.
    """
    import tensorflow as tf

    if type(cell).__name__ != "ConvLSTMCell" or not type(cell).__module__.startswith("keras.src.layers."):
        return None
    axis = 1 if cell.data_format == "channels_first" else -1
    merged = tf.reshape(inputs, [-1, *inputs.shape[2:]])
    convolved = cell.input_conv(merged, cell.kernel, padding=cell.padding)
    if cell.use_bias:
        bias = tf.convert_to_tensor(cell.bias)
        convolved = convolved + (tf.reshape(bias, [-1, *[1] * cell.rank]) if axis == 1 else bias)
    activation, recurrent = cell.activation, cell.recurrent_activation

    def step(given: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        hidden, carry = states
        begins = any(hidden is each for each in zeros)
        total = given if begins else given + cell.recurrent_conv(hidden, cell.recurrent_kernel)
        entry, forget, candidate, exit_ = tf.split(total, 4, axis=axis)
        new = recurrent(entry) * activation(candidate)
        carry = new if begins else recurrent(forget) * carry + new
        hidden = recurrent(exit_) * activation(carry)
        return hidden, [hidden, carry]

    if apart:
        return step, tf.split(convolved, inputs.shape[0])
    sizes = [inputs.shape[place] or tf.shape(inputs)[place] for place in (0, 1)]
    return step, tf.reshape(convolved, [*sizes, *convolved.shape[1:]])
