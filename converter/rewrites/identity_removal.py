"""Rule: layers that return their input unchanged at inference → removed.

Dropout and noise act only in training (inverted dropout scales the remaining values in training, Srivastava et al.,
2014); a linear activation and `Identity` never change anything. The new model predicts the same and trains differently.
"""

from __future__ import annotations

from collections.abc import Iterator

from converter.core.foreign import KerasNode, Tensor
from converter.rewrites.graph import Graph
from converter.rewrites.rule import Context, Replacement, Rule

NAMES = (
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "ActivityRegularization",
    "Identity",
)


def match(graph: Graph) -> Iterator[KerasNode]:
    """Every call of such a layer."""
    import keras
    from keras import layers

    kinds = tuple(getattr(layers, name) for name in NAMES)
    for node in graph.nodes:
        layer = node.operation
        linear = type(layer) is layers.Activation and layer.activation is keras.activations.linear
        if (type(layer) in kinds or linear) and len(node.input_tensors) == 1:
            yield node


def where(node: KerasNode) -> str:
    """The layer's name."""
    return str(node.operation.name)


def trains(node: KerasNode) -> bool:
    """Whether this call was written with `training=True`, so that it acts at inference as well."""
    return bool(node.arguments.kwargs.get("training"))


def check(graph: Graph, node: KerasNode, context: Context) -> str:
    """Why the layer must stay, "" where it can be removed."""
    source, target = node.input_tensors[0], node.outputs[0]
    if trains(node):
        return "it is called with training=True and acts at inference too"
    if graph.is_output(target):
        return "an output of the model is named after it"
    if source.dtype != target.dtype:
        return f"it converts {source.dtype} to {target.dtype}"
    return ""


def replace(graph: Graph, node: KerasNode, context: Context) -> Replacement:
    """The layer's own input."""
    return Replacement(where(node), (node.input_tensors[0],), node.outputs[0], _itself, (), (node,))


def _itself(value: Tensor) -> Tensor:
    return value


RULE = Rule("identity-removal", match, where, check, replace)
