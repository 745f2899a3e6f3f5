"""The int8 kernels of a plan, and what they say about processors without VNNI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from converter.core.foreign import Facts
from converter.core.precision import Target
from converter.quantize.plan import Operator, Plan
from converter.quantize.weights import SAFE, Weight, quantized


def kernels_of(steps: Sequence[Operator], plan: Plan, target: Target) -> dict[str, Weight]:
    """The int8 kernel of every operator of the plan that has one, by the name of the float kernel."""
    found: dict[str, Weight] = {}
    for index in sorted(plan.int8):
        kernel = steps[index].kernel
        if kernel is not None and kernel.name not in found:
            found[kernel.name] = quantized(kernel.array, kernel.axis, safe=target == "any")
    return found


def saturation(steps: Sequence[Operator], plan: Plan, kernels: Mapping[str, Weight]) -> Facts:
    """For every int8 convolution and dense layer whether two products can exceed 16 bits, and what that asks for.

    `any x86` of a layer is whether 255 (|w1| + |w2|) <= 32767 for any two neighbouring weights.
    """
    layers = []
    for index in sorted(plan.int8):
        kernel = steps[index].kernel
        if kernel is None:
            continue
        weight = kernels[kernel.name]
        layers.append(
            {
                "layer": steps[index].layer,
                "largest_sum": weight.pairs,
                "safe": not weight.saturates,
                "narrowed_channels": weight.narrowed,
            }
        )
    unsafe = [each["layer"] for each in layers if not each["safe"]]
    verdict = f"needs VNNI: {len(unsafe)} of {len(layers)} layers can saturate" if unsafe else "safe on any x86"
    return {"verdict": verdict, "limit": SAFE, "layers": layers, "can_saturate": unsafe}
