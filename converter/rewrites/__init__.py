"""Rewrites: rules that turn what no format holds well into what all of them do, each replacement proven.

`REWRITES` is what an export needs. `SIMPLIFICATIONS` are for whoever wants a smaller Keras model; an export folds the
same things in its trace. A new rule is one file here and one entry in one of the two tuples; their order is the order
in which they are applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from converter.core.data import Rewritten, RuleResult
from converter.rewrites import (
    batch_norm_folding,
    engine,
    grouped_convolution,
    identity_removal,
    late_binding,
    zero_padding,
)
from converter.rewrites.rule import Context, Groups, Replacement, Rule

REWRITES: tuple[Rule, ...] = (grouped_convolution.RULE, late_binding.RULE)
SIMPLIFICATIONS: tuple[Rule, ...] = (identity_removal.RULE, zero_padding.RULE, batch_norm_folding.RULE)


def rewrite(
    model: Any, *, groups: Groups = "preserve", inputs: Any = None, rules: Sequence[Rule] = REWRITES, seed: int = 0
) -> Rewritten:
    """`model` after `rules`; see `converter.rewrites.engine.rewrite`, which this is with a default for `rules`."""
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
