"""Rewrites: rules that replace what a format cannot represent well by what every format can, each replacement proven.

`REWRITES` is what an export needs. `SIMPLIFICATIONS` make a Keras model smaller; an export does the same while it
traces. A new rule is one file here and one entry in one of the two tuples, which give the order of application.
"""

from __future__ import annotations

from collections.abc import Sequence

from converter.core.data import Rewritten, RuleResult
from converter.core.foreign import KerasModel, Site, TensorTree
from converter.rewrites import (
    batch_norm_folding,
    engine,
    grouped_convolution,
    identity_removal,
    late_binding,
    zero_padding,
)
from converter.rewrites.rule import Context, Groups, Replacement, Rule

REWRITES: tuple[Rule[Site], ...] = (grouped_convolution.RULE, late_binding.RULE)
SIMPLIFICATIONS: tuple[Rule[Site], ...] = (identity_removal.RULE, zero_padding.RULE, batch_norm_folding.RULE)


def rewrite(
    model: KerasModel,
    *,
    groups: Groups = "preserve",
    inputs: TensorTree = None,
    rules: Sequence[Rule[Site]] = REWRITES,
    seed: int = 0,
) -> Rewritten:
    """`model` after `rules`: `converter.rewrites.engine.rewrite` with a default for `rules`."""
    return engine.rewrite(model, groups=groups, inputs=inputs, rules=rules, seed=seed)


__all__ = [
    "REWRITES",
    "SIMPLIFICATIONS",
    "Context",
    "Groups",
    "Replacement",
    "Rewritten",
    "Rule",
    "RuleResult",
    "rewrite",
]
