"""Values of TensorFlow outside a graph, as arrays of numpy."""

from __future__ import annotations

import numpy as np

from converter.core.data import Array
from converter.core.foreign import Tensor

_SHARED = ("float32", "float16", "float64", "int32", "int64")


def shared_array(value: Tensor) -> Array:
    """The array of an eager tensor, or of a variable, without a copy of its memory where numpy has its type.

    It must not be written to, and shows what is assigned to the variable later.
    """
    import tensorflow as tf

    tensor = tf.convert_to_tensor(value)
    if tensor.shape.rank and tensor.dtype.name in _SHARED:
        return np.asarray(memoryview(tensor))
    array: Array = tensor.numpy()
    return array
