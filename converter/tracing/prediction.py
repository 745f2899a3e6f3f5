"""Keras's own outputs: the model itself, called for inference, layer by layer or in a function of TensorFlow.

It is called as `model(inputs, training=False)`, not through `model.predict`, which a model may override and which feeds
the samples through a pipeline of data. Nothing here uses `converter.tracing.trace`, whose mistakes it has to show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np

from converter.core.data import Array, Arrays
from converter.core.errors import InputError
from converter.core.foreign import KerasModel, Tensor, TfFunction
from converter.core.text import reason_of
from converter.tracing.context import inlined_functions
from converter.tracing.signature import Signature
from converter.tracing.state import kept_state
from converter.tracing.widening import as_single

_Spec = tuple[tuple[int | None, ...], np.dtype]
_Shapes = tuple[tuple[int | None, ...], ...]

LOOPS = ("RNN", "LSTM", "GRU", "Bidirectional", "TimeDistributed")
"""Layers, by a part of their class, that take many steps: in a function they are much faster than step by step"""


class Prediction:
    """The outputs of a Keras model for inputs of any size.

    Each size is compiled at its first use, which takes longer than some calls: a model that is called `once` runs layer
    by layer instead, unless it has `LOOPS`. A function serves every number of samples, unless the model's code needs to
    know it. The weights are those that the model has at the time of the call.
    """

    def __init__(self, model: KerasModel, signature: Signature, *, once: bool = False) -> None:
        self.model, self.signature = model, signature
        self._eager = once and not any(part in kind for kind in signature.layers.values() for part in LOOPS)
        self._compiled: dict[_Shapes, TfFunction] = {}
        self._any_batch = not signature.inputs[0].shape[0]

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name; half precision becomes float32.

        `inputs` are by name too, shape (samples, ...), and all samples are one batch, or fill batches of the model's
        fixed size. Raises InputError where Keras cannot run the model: a name that TensorFlow refuses, too little
        memory, an error in a layer's code, an output without the samples on its first axis.
        """
        pieces = [self._run(flat) for flat in self._batches(inputs)]
        count = len(next(iter(inputs.values())))
        joined = (each[0] if len(each) == 1 else np.concatenate(each) for each in zip(*pieces, strict=True))
        return {spec.name: array[:count] for spec, array in zip(self.signature.outputs, joined, strict=True)}

    def _batches(self, inputs: Arrays) -> Iterator[list[Array]]:
        flat = [inputs[spec.name] for spec in self.signature.inputs]
        count, fixed = len(flat[0]), self.signature.inputs[0].shape[0]
        if not fixed:
            yield flat
            return
        for start in range(0, count, fixed):
            index = np.arange(start, start + fixed) % count
            yield [array[index] for array in flat]

    def _run(self, flat: list[Array]) -> list[Array]:
        import tensorflow as tf

        function = None if self._eager else self._function(flat)
        given = [tf.constant(array) for array in flat]
        try:
            with kept_state(self.model):
                if function is None:
                    tensors = self._layer_by_layer(given)
                else:
                    with _without_fusion() if _has_groups(function) else nullcontext():
                        tensors = function(*given)
            arrays = [as_single(np.asarray(tensor)) for tensor in tensors]
        except Exception as error:  # the user's own code may be a part of the function
            raise self._refused(error) from error
        for spec, array in zip(self.signature.outputs, arrays, strict=True):
            if array.shape[:1] != (len(flat[0]),):
                raise InputError(
                    f"{self.model.name}: output {spec.name} has shape {array.shape} for {len(flat[0])} samples\n"
                    "the first axis of every output must be the batch"
                )
        return arrays

    def _layer_by_layer(self, given: list[Tensor]) -> list[Tensor]:
        """The outputs; with Keras's XLA wrappers only where TensorFlow has no kernel for what is in them."""
        try:
            with inlined_functions():
                return self._outputs(given)
        except Exception:  # noqa: BLE001  the layers' own code runs here and may raise anything
            return self._outputs(given)

    def _outputs(self, tensors: list[Tensor]) -> list[Tensor]:
        import keras

        return list(keras.tree.flatten(self.model(self.signature.pack(tensors), training=False)))

    def _function(self, flat: list[Array]) -> TfFunction:
        """The compiled function for the sizes of `flat`.

        Keras compiles each grouped convolution with XLA, which takes a third of a second; without its wrapper
        TensorFlow's own kernel runs it. A function of the user may need its wrapper.
        """
        if self._any_batch:
            try:
                return self._known(tuple((None, *array.shape[1:]) for array in flat), flat)
            except InputError:
                self._any_batch = False
        return self._known(tuple(array.shape for array in flat), flat)

    def _known(self, shapes: _Shapes, flat: list[Array]) -> TfFunction:
        if shapes not in self._compiled:
            specs = list(zip(shapes, (array.dtype for array in flat), strict=True))
            try:
                found = self._traced(specs, inlined_functions())
                if _has_groups(found, ("Conv3D",)):  # TensorFlow has a kernel of its own for two axes only
                    found = self._traced(specs, nullcontext())
            except Exception:  # noqa: BLE001  the layers' own code runs here and may raise anything
                try:
                    found = self._traced(specs, nullcontext())
                except Exception as error:
                    raise self._refused(error) from error
            self._compiled[shapes] = found
        return self._compiled[shapes]

    def _traced(self, specs: Sequence[_Spec], scope: AbstractContextManager[None]) -> TfFunction:
        import tensorflow as tf

        def forward(*tensors: Tensor) -> list[Tensor]:
            with scope:
                return self._outputs(list(tensors))

        given = (tf.TensorSpec(*spec, name=f"input_{index}") for index, spec in enumerate(specs))
        return tf.function(forward, autograph=False).get_concrete_function(*given)

    def _refused(self, error: Exception) -> InputError:
        return InputError(
            f"{self.model.name}: Keras cannot run the model: {reason_of(error)}\n"
            "fix it so that model(inputs, training=False) runs; --debug shows where the error occurs"
        )


def predict(model: KerasModel, signature: Signature, inputs: Arrays) -> dict[str, Array]:
    """The outputs of `model` for `inputs`, as a call of `Prediction` returns them. Raises InputError as that does."""
    return Prediction(model, signature, once=True)(inputs)


def _has_groups(function: TfFunction, operators: Sequence[str] = ("Conv2D",)) -> bool:
    """Whether a convolution in the graph of `function` has fewer channels in its kernel than in its input."""
    for operation in function.graph.get_operations():
        if operation.type in operators:
            first = operation.get_attr("data_format") in (b"NCHW", b"NCDHW")
            given, kernel = operation.inputs[0].shape, operation.inputs[1].shape
            if given.rank and kernel.rank and given[1 if first else -1] != kernel[-2]:
                return True
    return False


@contextmanager
def _without_fusion() -> Iterator[None]:
    """Within the context, TensorFlow does not fuse a convolution with its bias: the fused kernel refuses groups."""
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options().get("remapping", True)
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before})
