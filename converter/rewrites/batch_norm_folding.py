"""Rule: batch normalization after a linear layer → that layer with other weights and a bias.

At inference, batch normalization is x * scale + shift per channel, with scale = gamma / sqrt(variance + epsilon) and
shift = beta - mean * scale (Ioffe and Szegedy, 2015). The kernel's output channels are multiplied by scale, the bias
becomes bias * scale + shift. This is computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from converter.core.data import float64
from converter.core.foreign import KerasLayer, KerasNode
from converter.rewrites.graph import Graph
from converter.rewrites.identity_removal import trains
from converter.rewrites.layers import altered_weights, array, channel_axis, renew
from converter.rewrites.rule import Context, Replacement, Rule

LINEAR = (
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
    "Dense",
)


@dataclass(frozen=True)
class Normalized:
    """The call of a linear layer, and the call of the batch normalization that reads it."""

    linear: KerasNode
    norm: KerasNode


def match(graph: Graph) -> Iterator[Normalized]:
    """Every batch normalization that reads a linear layer."""
    from keras import layers

    linear = [getattr(layers, name) for name in LINEAR]
    yield from (Normalized(*pair) for pair in graph.pairs(linear, [layers.BatchNormalization]))


def where(site: Normalized) -> str:
    """The batch normalization's name."""
    return str(site.norm.operation.name)


def check(graph: Graph, site: Normalized, context: Context) -> str:
    """Why the two cannot be made into one layer, "" where they can."""
    import keras

    layer, norm = site.linear.operation, site.norm.operation
    problem = altered_weights(layer)
    if problem:
        return f"{layer.name}: {problem}"
    if trains(site.norm):
        return "it is called with training=True and normalizes by the batch"
    if getattr(norm, "renorm", False):
        return "batch renormalization has other statistics"
    for operation in (layer, norm):
        if graph.calls(operation) > 1:
            return f"{operation.name} is shared between calls"
    if not graph.private(site.linear.outputs[0]):
        return f"{layer.name} has another reader, which needs its output before the normalization"
    if layer.activation is not keras.activations.linear:
        return f"{layer.name} has the activation {getattr(layer.activation, '__name__', layer.activation)}"
    rank = len(site.norm.input_tensors[0].shape)
    channels = channel_axis(getattr(layer, "data_format", None)) % rank
    if norm.axis % rank != channels:
        return f"it normalizes axis {norm.axis}, the channels of {layer.name} are axis {channels}"
    return ""


def replace(graph: Graph, site: Normalized, context: Context) -> Replacement:
    """The linear layer with the normalization folded into its kernel and bias."""
    old, source, target = site.linear.operation, site.linear.input_tensors[0], site.norm.outputs[0]
    nodes = (site.linear, site.norm)
    scale, shift = affine(site.norm.operation)
    bias = float64(array(old.bias)) if old.use_bias else 0.0
    arrays = [float64(array(variable)) for variable in old.weights][: -1 if old.use_bias else None]
    arrays[-1] = _scaled(type(old).__name__, arrays[-1], scale)
    changes = {"name": graph.new_name(old.name, target, nodes), "use_bias": True}
    layer = renew(old, source.shape, changes, [*arrays, bias * scale + shift])
    return Replacement(layer.name, (source,), target, layer, (layer,), nodes)


def affine(norm: KerasLayer) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Scale and shift per channel that `norm` applies at inference, in float64."""
    scale = 1.0 / np.sqrt(float64(array(norm.moving_variance)) + norm.epsilon)
    if norm.scale:
        scale = scale * float64(array(norm.gamma))
    shift = -float64(array(norm.moving_mean)) * scale
    if norm.center:
        shift = shift + float64(array(norm.beta))
    return scale, shift


def _scaled(kind: str, kernel: npt.NDArray[np.float64], scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`kernel` with its output channels scaled; `kind` is the class of its layer, which decides about their axis.

    The last axes are (input channel, multiplier) in depthwise kernels, which together are the output channels in that
    order; (output channel, input channel) in transposed ones; and the output channel in all others.
    """
    if kind.startswith("Depthwise"):
        return kernel * scale.reshape(kernel.shape[-2:])
    if kind.endswith("Transpose"):
        return kernel * scale[:, np.newaxis]
    return kernel * scale


RULE = Rule("batch-norm-folding", match, where, check, replace)
