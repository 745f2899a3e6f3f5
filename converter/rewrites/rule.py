"""What a rewrite rule is: a pattern, a check that says why it declines, and a replacement.

The engine (`converter.rewrites.engine`) owns everything else: it walks the rules, proves every replacement against
the part of the model that it replaces, and rebuilds the model from those that were proven. A rule therefore cannot
vouch for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from converter.core.data import Array
from converter.rewrites.graph import Graph

Groups = Literal["preserve", "as-written"]


@dataclass(frozen=True)
class Context:
    """What the user chose: what becomes of late-binding groups, and the seed of the proofs."""

    groups: Groups = "preserve"
    seed: int = 0


@dataclass(frozen=True)
class Replacement:
    """The tensor `target` made from `sources` in another way.

    `call` takes one value per source, symbolic or not, and returns the target's. `layers` are the new layers it uses,
    `nodes` the old calls that vanish. `meant` is set where the function is changed on purpose: given the value of
    the first source, it returns values (by tensor id) that override those inside the old part before the two are
    compared. `note` goes into the result, `warning` is one line about this place.
    """

    name: str
    sources: tuple[Any, ...]
    target: Any
    call: Callable[..., Any]
    layers: tuple[Any, ...]
    nodes: tuple[Any, ...]
    meant: Callable[[Any], Mapping[int, Any]] | None = None
    note: str = ""
    warning: str = ""


@dataclass(frozen=True)
class Rule:
    """One rewrite.

    `match` yields the places that look like the pattern, `where` names one of them, `check` returns the reason why it
    has to stay as it is ("" where it need not), `replace` builds the replacement without touching the model. `warn`
    turns the replacements that were made into what the user has to be told ("" for nothing).
    """

    name: str
    match: Callable[[Graph], Iterable[Any]]
    where: Callable[[Any], str]
    check: Callable[[Graph, Any, Context], str]
    replace: Callable[[Graph, Any, Context], Replacement]
    warn: Callable[[Sequence[Replacement], Context], str] | None = None


def as_array(value: Any) -> Array:
    """A tensor of any kind as a numpy array."""
    from keras import ops

    result: Array = ops.convert_to_numpy(value)
    return result
