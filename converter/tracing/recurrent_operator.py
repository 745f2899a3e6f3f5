"""What a recurrent node of the trace computes, and which Keras layers are one: LSTM, GRU, SimpleRNN.

The node is a call of a function; what it computes is in the function's `_implements` attribute.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from converter.core.foreign import KerasLayer, NodeDef
from converter.tracing.widening import OTHERS

_PREFIX = "cnnexport:"


@dataclass(frozen=True)
class Recurrent:
    """What a recurrent node computes. Its inputs are, in this order:

    the sequence, shape (steps, batch, features); the first states, shape (batch, units), as many as are `given`, zeros
    otherwise; kernel, recurrent kernel and, with `bias`, bias as in Keras. Its outputs are all outputs, shape
    (steps, batch, units), if `sequence`; and the final states. With `reverse` it goes from the last step to the first,
    and the outputs stand where their inputs do.
    """

    kind: str
    units: int
    activation: str
    recurrent_activation: str
    given: int
    bias: bool
    reset_after: bool
    reverse: bool
    sequence: bool

    @property
    def states(self) -> int:
        """The number of states."""
        return 2 if self.kind == "LSTM" else 1

    @property
    def text(self) -> str:
        """The value of the attribute."""
        return _PREFIX + json.dumps(asdict(self))


def recurrent_of(attributes: Mapping[str, NodeDef]) -> Recurrent | None:
    """What a function with these attributes (of its FunctionDef) computes, if it was made here."""
    text = attributes["_implements"].s.decode() if "_implements" in attributes else ""
    return Recurrent(**json.loads(text.removeprefix(_PREFIX))) if text.startswith(_PREFIX) else None


def operator_of(layer: KerasLayer, masked: bool, unset: bool) -> Recurrent | None:
    """What `layer` computes as one node, or None where there is no operator for its cell.

    `unset`: its initial states are zeros.
    """
    import keras

    cell = layer.cell
    kinds = {keras.layers.LSTMCell: "LSTM", keras.layers.GRUCell: "GRU", keras.layers.SimpleRNNCell: "RNN"}
    kind = kinds.get(type(cell))
    if kind is None or cell.compute_dtype not in ("float32", *OTHERS):
        return None
    activation, recurrent = _activation(cell.activation), _activation(getattr(cell, "recurrent_activation", None))
    if not activation or (kind != "RNN" and not recurrent):
        return None
    if masked and kind == "LSTM" and layer.return_state and recurrent not in ("sigmoid", "hard_sigmoid"):
        return None  # no gate of it can be closed at steps that do not count
    found = Recurrent(
        kind=kind,
        units=cell.units,
        activation=activation,
        recurrent_activation=recurrent,
        given=0,
        bias=bool(cell.use_bias),
        reset_after=bool(getattr(cell, "reset_after", False)),
        reverse=bool(layer.go_backwards) and not masked,
        sequence=bool(layer.return_sequences) or masked,
    )
    return found if unset else replace(found, given=found.states)


def _activation(function: object) -> str:
    """The name of a Keras activation that runtimes have in their recurrent operators, or "" for another one."""
    import keras

    names = ("tanh", "sigmoid", "relu", "linear", "hard_sigmoid", "softsign", "softplus", "elu", "leaky_relu")
    return next((name for name in names if function is getattr(keras.activations, name)), "")
