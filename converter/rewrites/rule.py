"""What a rewrite rule is: a pattern, a check that gives a reason where it declines, and a replacement.

All the rest is in `converter.rewrites.engine`: it applies the rules, proves every replacement against the part of the
model that it replaces, and rebuilds the model from the proven ones. So a rule cannot approve its own result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from converter.core.data import Array
from converter.core.foreign import KerasNode, KerasOperation, KerasTensor, Tensor
from converter.rewrites.graph import Compute, Graph, Values

Groups = Literal["preserve", "as-written"]
SiteT = TypeVar("SiteT")


@dataclass(frozen=True)
class Context:
    """The user's choices: how late-binding groups are rewritten, and the seed of the proofs."""

    groups: Groups = "preserve"
    seed: int = 0


@dataclass(frozen=True)
class Replacement:
    """The tensor `target` made from `sources` in another way.

    `call` takes one value for each source, symbolic or concrete, and returns the target's. `layers` are the new layers
    that it uses, `nodes` the old calls that are removed. `meant` is set where the function is changed on purpose: given
    the value of the first source, it returns values that replace those inside the old part before the two are
    compared. `note` goes into the result, `warning` is one line about this place.
    """

    name: str
    sources: tuple[KerasTensor, ...]
    target: KerasTensor
    call: Compute
    layers: tuple[KerasOperation, ...]
    nodes: tuple[KerasNode, ...]
    meant: Callable[[Tensor], Values] | None = None
    note: str = ""
    warning: str = ""


@dataclass(frozen=True)
class Rule(Generic[SiteT]):
    """One rewrite; `SiteT` is the class that describes a place where the pattern occurs.

    `match` yields the places, `where` names one of them, `check` returns the reason why it must stay unchanged ("" if
    it can be rewritten), `replace` builds the replacement without changing the model. `warn` describes all
    replacements that were made in one warning for the user ("" for none).
    """

    name: str
    match: Callable[[Graph], Iterable[SiteT]]
    where: Callable[[SiteT], str]
    check: Callable[[Graph, SiteT, Context], str]
    replace: Callable[[Graph, SiteT, Context], Replacement]
    warn: Callable[[Sequence[Replacement], Context], str] | None = None


def as_array(value: Tensor) -> Array:
    """A tensor of any kind as a numpy array."""
    from keras import ops

    result: Array = ops.convert_to_numpy(value)
    return result
