"""Facts of a model that are kept without the model: for the manifest and, with the evidence, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from converter.bundle.manifest import Manifest
from converter.core import machine
from converter.core.clock import Clock
from converter.core.data import Artifact, Interface, RuleResult
from converter.core.foreign import Facts, Json
from converter.core.results import Report
from converter.proof.exported import Exported
from converter.proof.prove import Evidence


@dataclass(frozen=True)
class ModelFacts:
    """A model's name, source and interface, and how it was changed.

    `precision` is the precision that Keras computes in.
    """

    name: str
    source: Mapping[str, Json]
    interface: Interface
    precision: str = "float32"
    rewrites: tuple[RuleResult, ...] = ()
    warnings: tuple[str, ...] = ()
    preprocessing: Mapping[str, Json] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    @property
    def half(self) -> bool:
        """Whether Keras computes in half precision and the references are those of float64."""
        return self.precision == "float32" and self.source.get("keras_precision", "float32") != "float32"

    @property
    def mixes(self) -> bool:
        """Whether the output of a sample depends on the other samples of its batch."""
        return self.source.get("mixes_samples") is True

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> ModelFacts:
        """The facts recorded by an export."""
        return cls(
            name=manifest.model,
            source=manifest.source,
            interface=manifest.interface,
            precision=str(manifest.tolerance.get("precision", "float32")),
            rewrites=manifest.rewrites,
            warnings=manifest.warnings,
            preprocessing=manifest.preprocessing,
            labels=manifest.labels,
        )


def report_of(facts: ModelFacts, exported: Exported, evidence: Evidence, clock: Clock, seed: int) -> Report:
    """The report of a proof. The caller adds the final directory and the formats that could not be written."""
    return Report(
        model=facts.name,
        source=facts.source,
        rows=evidence.rows,
        controls=evidence.controls,
        tolerances=evidence.tolerances,
        separation=evidence.separation,
        verdict=evidence.verdict,
        reasons=evidence.reasons,
        artifacts=exported.artifacts,
        warnings=(*facts.warnings, *evidence.notes),
        timings=dict(clock.timings),
        environment=machine.describe(),
        seed=seed,
        directory=str(exported.directory),
        stages=evidence.stages,
    )


def manifest_of(facts: ModelFacts, artifacts: tuple[Artifact, ...], report: Report, chosen: float | None) -> Facts:
    """The fields of the manifest, except those that `converter.bundle.manifest.write_manifest` adds."""
    return {
        "model": facts.name,
        "source": facts.source,
        "artifacts": artifacts,
        "inputs": facts.interface.inputs,
        "outputs": facts.interface.outputs,
        "tolerance": {"chosen": chosen, "precision": facts.precision, "outputs": report.tolerances},
        "rewrites": facts.rewrites,
        "warnings": facts.warnings,
        "preprocessing": facts.preprocessing,
        "labels": facts.labels,
        "environment": report.environment,
        "seed": report.seed,
    }
