"""What a proof measures in the golden arrays alone: tolerances, controls, and the distance of the samples.

An export needs it twice: to choose its inputs, and for the verdict. For an output of a million values it takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converter.core.data import Golden, TensorSpec
from converter.core.results import Control, Tolerance
from converter.proof.comparison import separation
from converter.proof.controls import check_controls
from converter.proof.tolerance import tolerances


@dataclass(frozen=True)
class Measures:
    """The measures of `golden`, and what they depend on besides; without a tolerance that the user chose."""

    golden: Golden
    activations: Mapping[str, str]
    precision: str
    tolerances: Mapping[str, Tolerance]
    controls: tuple[Control, ...]
    separation: Mapping[str, float]

    @classmethod
    def of(cls, golden: Golden, specs: Mapping[str, TensorSpec], precision: str) -> Measures:
        """Measure `golden`. Raises what `tolerances` raises."""
        bounds = tolerances(golden, specs, precision)
        controls, apart = check_controls(golden, specs, bounds), separation(golden.references, specs)
        return cls(golden, _activations(specs), precision, bounds, controls, apart)

    def fit(self, golden: Golden, specs: Mapping[str, TensorSpec], precision: str) -> bool:
        """Whether these are the measures of the same arrays, compared in the same way."""
        return self.golden is golden and self.activations == _activations(specs) and self.precision == precision


def _activations(specs: Mapping[str, TensorSpec]) -> dict[str, str]:
    return {name: spec.activation for name, spec in specs.items()}
