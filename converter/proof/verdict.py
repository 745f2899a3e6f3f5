"""From rows and controls to a verdict: pass, fail or inconclusive, with the reasons as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from converter.core.data import Verdict
from converter.core.distance import FLOAT32
from converter.core.results import Comparison, Control, OutputResult, Tolerance
from converter.proof.controls import OF_WEIGHTS
from converter.proof.domains import low_precision

PROCESSOR = "CPUExecutionProvider"
"""What onnxruntime calls the CPU in the placement of nodes"""

RESOLUTION = 8 * 2.0**-23  # of a logit computed from float32 probabilities
SEPARATION, SEPARATION_LOW = 100.0, 3.0  # required distance of two samples, in multiples of the tolerance
REMEDY = "give other inputs with --range LOW:HIGH or --inputs FILE.npz"


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
        precision = "" if row.precision == "float32" else f" {row.precision}"
        where = f"{row.subject}{precision} in {row.runtime} on {row.device}"
        if row.error:
            failures.append(f"{where}: {row.error}")
        elif not row.outputs:
            doubts.append(f"{where}: no output was compared")
        if row.samples < 2 and row.subject != "keras":  # of Keras itself as many as were run in float64
            doubts.append(f"{where}: {row.samples} sample(s) compared; at least two are needed")
        for output in row.outputs:
            if output.passed:
                continue
            bound = tolerances.get(output.output)
            text = f"{where}, output {output.output}: {output.reason or 'failed'}{_below(bound)}"
            if _within_noise(output, bound):
                doubts.append(f"{text}; Keras's own rounding error is nearly as large")
            else:
                failures.append(text)
    if not controls:
        doubts.append("no negative control was run")
    doubts += [f"control {each.name}: {each.detail}" for each in controls if each.applicable and not each.detected]
    doubts += unexcited(controls, separation, tolerances) if controls else ()
    if failures:
        return "fail", tuple(failures + doubts)
    return ("inconclusive", tuple(doubts)) if doubts else ("pass", ())


def _below(tolerance: Tolerance | None) -> str:
    """That the user's tolerance is below the noise, as the end of a sentence, or ""."""
    if tolerance is None or not tolerance.chosen or tolerance.noise is None or tolerance.value >= tolerance.noise:
        return ""
    return f"; the model's own rounding error, {tolerance.noise:.3g}, is above the chosen tolerance"


def unexcited(
    controls: Sequence[Control], separation: Mapping[str, float], tolerances: Mapping[str, Tolerance]
) -> list[str]:
    """Why the samples do not excite an output enough, with the remedy; one sentence for each output.

    Two samples have to differ by 100 times the tolerance, or by 3 times where a changed weight is detected: that shows
    the resolution of the comparison directly. In any case they have to differ by more than the noise explains. An
    output that is the same for every sample needs another control that is detected on it, and another output that is
    not constant.
    """
    found = []
    constant = {name for name in tolerances if separation.get(name, 0.0) == 0}
    for name, tolerance in tolerances.items():
        detected = [each.name for each in controls if name in each.outputs]
        fine = low_precision(tolerance) or any(each.startswith(OF_WEIGHTS) for each in detected)
        needed = max(
            (SEPARATION_LOW if fine else SEPARATION) * tolerance.value, tolerance.factor * (tolerance.noise or 0.0)
        )
        apart = separation.get(name, 0.0)
        if not detected:
            found.append(f"output {name}: no control changes it, so that nothing shows what would fail; {REMEDY}")
        elif name in constant and len(constant) == len(tolerances):
            found.append(f"output {name}: is the same for every sample; {REMEDY}")
        elif name not in constant and not apart >= needed:
            found.append(
                f"output {name}: two samples differ by only {apart:.3g}, at least {needed:.3g} is needed; {REMEDY}"
            )
    return found


def notes(
    controls: Sequence[Control], separation: Mapping[str, float], tolerances: Mapping[str, Tolerance]
) -> tuple[str, ...]:
    """What a reader of the verdict should know although it does not change it, as sentences."""
    constant = [name for name in tolerances if separation.get(name, 0.0) == 0]
    found = [f"output {name} is the same for every sample: only this value was compared" for name in constant]
    low = any(low_precision(tolerance) for tolerance in tolerances.values())
    if controls and not low and not any(each.name.startswith(OF_WEIGHTS) for each in controls):
        found.append("no control changes a weight: the model has no matrix of weights that its outputs depend on")
    return tuple(found)


def beside_the_gpu(rows: Sequence[Comparison]) -> tuple[str, ...]:
    """A sentence for each row of a GPU with nodes that ran elsewhere; the heavy ones are an error before this."""
    found = []
    for row in rows:
        placement = row.facts.get("placement") if row.device != "cpu" else None
        elsewhere = placement.get(PROCESSOR) if placement else None
        if placement and elsewhere:
            count, every = sum(elsewhere.values()), sum(sum(each.values()) for each in placement.values())
            where = f"{row.subject} in {row.runtime} on {row.device}"
            found.append(f"{where}: {count} of {every} nodes on the CPU: {', '.join(sorted(elsewhere))}")
    return tuple(found)


def _within_noise(output: OutputResult, tolerance: Tolerance | None) -> bool:
    """Whether the numbers of a failed output exceed the tolerance by no more than rounding explains.

    The limit is eight times the noise, if this is above the cap, or eight units in the last place of a float32
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
    factor = min(tolerance.factor, FLOAT32.factor)
    return output.relative_l2 <= factor * tolerance.noise and output.relative_max <= factor * tolerance.noise_max
