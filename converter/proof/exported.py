"""What is to be proven: an export as files, with the golden arrays of its Keras model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converter.core.data import Arrays, Artifact, Golden, Interface
from converter.proof.measures import Measures
from converter.proof.plan import ProofOptions


@dataclass(frozen=True)
class Exported:
    """The export to prove: artifacts in `directory`, with the Keras model's interface and golden arrays.

    `rewritten` are the outputs of the rewritten Keras model, compared in a row of their own (None: no such row).
    `precision` is "float16" if Keras computed the golden outputs in half precision. If the golden outputs are float64's
    because Keras computes in half precision (`half`), `keras` are Keras's own, None if they are not known any more; of
    these models `rewritten` are in half precision too.
    `mixes`: a sample's output depends on its whole batch, so that only the whole batch can be compared. `measures` are
    those of the golden arrays if they are known already. `arrays` is their file if it is not golden.npz.
    """

    directory: Path
    artifacts: tuple[Artifact, ...]
    interface: Interface
    golden: Golden
    precision: str = "float32"
    rewritten: Arrays | None = None
    keras: Arrays | None = None
    half: bool = False
    mixes: bool = False
    measures: Measures | None = None
    arrays: Path | None = None

    def known(self, options: ProofOptions) -> Measures | None:
        """What was measured in the golden arrays already, if it is what a proof with `options` needs."""
        found = self.measures
        if found is None or options.tolerance is not None:
            return None
        return found if found.fit(self.golden, self.interface.by_output, self.precision) else None
