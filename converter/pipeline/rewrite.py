"""`rewrite`: applies the rewrites to a Keras model, saves the result as a Keras model, and reports the changes.

The export applies the same rules; here the result remains a Keras model that is trainable, has no Lambda layer, and
loads in safe mode.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Unpack, get_args

from converter.core.data import Arrays, RuleResult, Verdict
from converter.core.disk import writing
from converter.core.ending import removed_at_end
from converter.core.errors import ConversionError, OutputError, ParityError
from converter.core.foreign import KerasModel
from converter.core.results import Comparison, OutputResult, Tolerance
from converter.pipeline.arguments import require_samples, source_options
from converter.pipeline.checks import path_of, refuse_unknown, require_choice, require_flag
from converter.pipeline.options import Groups, ModelOrPath, PathText, RewriteKeywords, SourceKeywords
from converter.proof.comparison import compare_outputs, separation
from converter.proof.controls import check_controls, check_shifted
from converter.proof.tolerance import tolerances
from converter.proof.verdict import judge
from converter.tracing.reference import Measured


@dataclass(frozen=True)
class RewriteResult:
    """The result of `rewrite`.

    `layers` and `parameters` are counts before and after, `results` those of the rules. `difference` is the relative L2
    distance between the outputs of the two models by output name, `noise` the noise of the original model.
    """

    model: str
    path: str
    layers: tuple[int, int]
    parameters: tuple[int, int]
    difference: dict[str, float]
    noise: dict[str, float | None]
    results: tuple[RuleResult, ...]
    warnings: tuple[str, ...]
    changed_on_purpose: bool = False


@writing()
def rewrite(model: ModelOrPath, output: PathText, **keywords: Unpack[RewriteKeywords]) -> RewriteResult:
    """Load the source `model`, rewrite it, prove that its predictions are unchanged, and save it to `output`.

    Keywords (`RewriteKeywords`): the options of a source, `groups`, `simplify` (also fold batch normalizations and
    remove layers that inference does not need), `force` (replace an existing file), and `samples`, the number of inputs
    for the proof.

    Raises UsageError or OutputError if `output` cannot be written, already exists (without `force`), or is the source
    itself; ConversionError if the result would still contain a Lambda layer; and ParityError if its predictions differ
    although the function was not changed on purpose (`groups` "as-written").
    """
    from converter import rewrites, sources
    from converter.core.effort import Effort
    from converter.pipeline.golden import Settings, golden_of
    from converter.tracing import prediction
    from converter.tracing.signature import describe

    refuse_unknown(keywords, RewriteKeywords, "rewrite")
    about = {name: value for name, value in keywords.items() if name in SourceKeywords.__annotations__}
    asked, groups, samples = source_options(about), keywords.get("groups", "preserve"), keywords.get("samples", 4)
    simplify, force = keywords.get("simplify", False), keywords.get("force", False)
    require_choice("groups", groups, get_args(Groups))
    require_samples(samples)
    require_flag("simplify", simplify)
    require_flag("force", force)
    path = path_of(output, "output")
    _check_output(path, model, force)
    source = sources.opened(model, asked).load()
    signature = describe(source.model)
    rules = (*rewrites.REWRITES, *(rewrites.SIMPLIFICATIONS if simplify else ()))
    rewritten = rewrites.rewrite(source.model, groups=groups, rules=rules, seed=asked.seed)
    left = [layer.name for layer in rewritten.model._flatten_layers() if type(layer).__name__ == "Lambda"]
    if left:
        reasons = [result.reason for result in rewritten.results if not result.applied][:1]
        reason = f": {reasons[0]}" if reasons else ""
        raise ConversionError(f"{left[0]}: still a Lambda layer after the rewrites{reason}")
    settings = Settings(effort=Effort(samples), seed=asked.seed, layers=False)
    before = golden_of(source.model, source, signature, settings).measured.own
    after = prediction.predict(rewritten.model, signature, before.golden.inputs)
    bounds = tolerances(before.golden, before.by_output, before.precision)
    outcome = compare_outputs(before.golden.references, after, before.by_output, bounds)
    on_purpose = groups == "as-written" and bool(rewritten.warnings)
    warnings = rewritten.warnings
    if not on_purpose:
        verdict, causes = _judge(before, after, outcome, bounds)
        if verdict == "fail":
            raise ParityError(f"{source.name}: {causes[0]}; nothing was saved")
        warnings = (*warnings, *(f"the comparison is inconclusive: {reason}" for reason in causes))
    _save(rewritten.model, path)
    return RewriteResult(
        model=source.name,
        path=str(path),
        layers=(_layers(source.model), _layers(rewritten.model)),
        parameters=(source.model.count_params(), rewritten.model.count_params()),
        difference={each.output: float(each.relative_l2 or 0.0) for each in outcome},
        noise={name: bound.noise for name, bound in bounds.items()},
        results=rewritten.results,
        warnings=warnings,
        changed_on_purpose=on_purpose,
    )


def _judge(
    before: Measured, after: Arrays, outcome: tuple[OutputResult, ...], bounds: Mapping[str, Tolerance]
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on the rewritten model, with the controls that an artifact would have to pass.

    A probability may be computed exactly although its logit is rounding error, as in a classifier that was never
    trained. Then the verdict is inconclusive, but the plain values must still be equal.
    """
    golden, specs = before.golden, before.by_output
    row = Comparison("keras-rewritten", "keras", "cpu", "float32", outcome, golden.samples)
    controls = (*check_controls(golden, specs, bounds), check_shifted(golden, after, specs, bounds))
    verdict, reasons = judge([row], controls, separation(golden.references, specs), bounds)
    plain = {name: replace(spec, activation="linear") for name, spec in specs.items()}
    limits = tolerances(golden, plain, before.precision)
    wrong = [each for each in compare_outputs(golden.references, after, plain, limits) if not each.passed]
    if verdict != "fail" and wrong:
        return "fail", (f"output {wrong[0].output}: {wrong[0].reason}",)
    return verdict, reasons


def _check_output(path: Path, model: ModelOrPath, force: bool) -> None:
    """Refuse an invalid output path before anything is loaded."""
    if path.suffix != ".keras":
        raise OutputError(f"{path}: the name of a Keras model file must end in .keras\ngive -o NAME.keras")
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; give a file")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: its directory does not exist; create it first")
    if path.exists():
        if isinstance(model, str | PathLike) and Path(model).exists() and path.samefile(model):
            raise OutputError(f"{path}: is the model to rewrite\ngive another file with -o")
        if not force:
            raise OutputError(f"{path}: already exists\ngive another file with -o, or --force to replace it")


def _layers(model: KerasModel) -> int:
    return len(model.layers)


def _save(model: KerasModel, output: Path) -> None:
    """Write to a temporary file beside `output` and move it, so that an interruption leaves the old file intact."""
    import warnings

    partial = output.with_name(f".{output.stem}.{secrets.token_hex(4)}.keras")
    try:
        with removed_at_end(partial), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # numpy 2 deprecates functions that Keras uses here
            model.save(partial)
        os.replace(partial, output)  # noqa: PTH105  the documented atomic call
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
