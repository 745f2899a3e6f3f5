"""From rows and controls to a verdict: pass, fail or inconclusive, with the reasons as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from converter.core.data import Verdict
from converter.core.results import Comparison, Control, OutputResult, Tolerance
from converter.proof.domains import low_precision

RESOLUTION = 8 * 2.0**-23  # of a logit computed from float32 probabilities
SEPARATION, SEPARATION_LOW = 100.0, 3.0  # required distance of any two samples, in multiples of the tolerance


def judge(
    rows: Sequence[Comparison],
    controls: Sequence[Control],
    separation: Mapping[str, float],
    tolerances: Mapping[str, Tolerance],
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons.

    A failure takes precedence over inconclusive: a check that failed was able to fail. A difference above the tolerance
    that Keras's own rounding explains is inconclusive and not a failure: Keras itself would exceed that tolerance (for
    example a randomly initialised classifier whose logits are all rounding error).
    """
    failures: list[str] = []
    doubts: list[str] = []
    if not rows:
        doubts.append("nothing was compared")
    for row in rows:
        where = f"{row.subject} in {row.runtime} on {row.device}"
        if not row.outputs:
            doubts.append(f"{where}: no output was compared")
        if row.samples < 2:
            doubts.append(f"{where}: {row.samples} sample(s) compared; at least two are needed")
        for output in row.outputs:
            if output.passed:
                continue
            text = f"{where}, output {output.output}: {output.reason or 'failed'}"
            if _within_noise(output, tolerances.get(output.output)):
                doubts.append(f"{text}; Keras's own rounding error is nearly as large")
            else:
                failures.append(text)
    if not controls:
        doubts.append("no negative control was run")
    doubts += [f"control {control.name}: {control.detail}" for control in controls if not control.detected]
    for name, tolerance in tolerances.items():
        needed = (SEPARATION_LOW if low_precision(tolerance) else SEPARATION) * tolerance.value
        apart = separation.get(name, 0.0)
        if not apart >= needed:
            doubts.append(f"output {name}: two samples differ by only {apart:.3g}, at least {needed:.3g} is needed")
    if failures:
        return "fail", tuple(failures + doubts)
    return ("inconclusive", tuple(doubts)) if doubts else ("pass", ())


def _within_noise(output: OutputResult, tolerance: Tolerance | None) -> bool:
    """Whether the numbers of a failed output exceed the tolerance by no more than rounding explains.

    The limit is `factor` times the noise, if this is above the cap, or eight units in the last place of a float32
    probability.
    """
    if tolerance is None or tolerance.chosen or output.relative_l2 is None or output.relative_max is None:
        return False
    if not (output.relative_l2 > tolerance.value or output.relative_max > tolerance.value_max):
        return False
    if output.domain != "value" and output.max_abs is not None and output.max_abs <= RESOLUTION:
        return True
    if tolerance.noise is None or tolerance.noise_max is None:
        return False
    noisy = output.relative_l2 <= tolerance.factor * tolerance.noise
    return noisy and output.relative_max <= tolerance.factor * tolerance.noise_max
