"""`cnnexport rewrite`: a Keras model after its rewrites, saved as a Keras model again, and what that changed.

The export applies the same rules; here their result stays in Keras, trainable, without a Lambda, loadable in safe mode.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from converter.proof import comparison as compare
from converter.core.data import RuleResult, SourceOptions
from converter.core.errors import ConversionError, OutputError, ParityError


@dataclass(frozen=True)
class Resaved:
    """What `resave` did: counts before and after, the rules' results, and the measured difference by output name."""

    model: str
    path: str
    layers: tuple[int, int]
    parameters: tuple[int, int]
    difference: dict[str, float]
    noise: dict[str, float | None]
    results: tuple[RuleResult, ...]
    warnings: tuple[str, ...]
    changed_on_purpose: bool = False


def resave(
    text: str,
    output: Path,
    options: SourceOptions | None = None,
    *,
    groups: Literal["preserve", "as-written"] = "preserve",
    simplify: bool = False,
    samples: int = 4,
) -> Resaved:
    """Load the source that `text` names, rewrite it, prove that it still predicts the same, and save it to `output`.

    `simplify` also folds batch normalizations and removes what inference does not need. Raises UsageError or
    OutputError for an `output` that cannot be written, ConversionError where the result would still hold a Lambda, and
    ParityError where it predicts something else and the function was not changed on purpose (`groups` "as-written").
    """
    from converter import rewrites, sources
    from converter.tracing import reference
    from converter.core.samples import generate
    from converter.tracing.signature import describe

    options = options or SourceOptions()
    if output.suffix != ".keras":
        raise OutputError(f"{output}: a Keras model is saved as .keras\ngive -o NAME.keras")
    if output.is_dir() or not output.parent.is_dir():
        raise OutputError(f"{output}: {'is a directory' if output.is_dir() else 'its folder does not exist'}")
    source = sources.load(text, options)
    signature = describe(source.model)
    span = source.preprocessing.get("range")
    ranges = {spec.name: (float(span[0]), float(span[1])) for spec in signature.inputs} if span else None
    inputs = generate(signature.inputs, samples, options.seed, ranges)
    rules = (*rewrites.REWRITES, *(rewrites.SIMPLIFICATIONS if simplify else ()))
    rewritten = rewrites.rewrite(source.model, groups=groups, rules=rules, seed=options.seed)
    left = [layer.name for layer in rewritten.model._flatten_layers() if type(layer).__name__ == "Lambda"]
    if left:
        reasons = [result.reason for result in rewritten.results if not result.applied][:1]
        raise ConversionError(f"{left[0]}: still a Lambda after the rewrites{': ' + reasons[0] if reasons else ''}")
    before = reference.predict(source.model, signature, inputs)
    after = reference.predict(rewritten.model, signature, inputs)
    specs = {spec.name: spec for spec in signature.outputs}
    bounds = compare.tolerances(before, reference.exact(source.model, signature, inputs), specs)
    outcome = compare.compare_outputs(before, after, specs, bounds)
    on_purpose = groups == "as-written" and bool(rewritten.warnings)
    wrong = [result for result in outcome if not result.passed]
    if wrong and not on_purpose:
        raise ParityError(f"{source.name}: output {wrong[0].output}: {wrong[0].reason}; nothing was saved")
    _save(rewritten.model, output)
    return Resaved(
        model=source.name,
        path=str(output),
        layers=(_layers(source.model), _layers(rewritten.model)),
        parameters=(source.model.count_params(), rewritten.model.count_params()),
        difference={each.output: float(each.relative_l2 or 0.0) for each in outcome},
        noise={name: bound.noise for name, bound in bounds.items()},
        results=rewritten.results,
        warnings=rewritten.warnings,
        changed_on_purpose=on_purpose,
    )


def _layers(model: Any) -> int:
    return len(model.layers)


def _save(model: Any, output: Path) -> None:
    """Write beside `output` and move it there, so that an interrupted save leaves what was there before."""
    import warnings

    partial = output.with_name(f".{output.stem}.{secrets.token_hex(4)}.keras")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # numpy 2 deprecates what Keras calls while saving
            model.save(partial)
        os.replace(partial, output)  # noqa: PTH105  the atomic call, by its name
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
