"""`load`: decide what the user's text means and hand it to the module that knows that kind of source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from converter.core.machine import quiet_tensorflow
from converter.core.errors import UsageError
from converter.sources.names import kind_of, known_names, nearest

if TYPE_CHECKING:  # converter.core.data imports numpy, which `cnnexport list` does not need
    from converter.core.data import Arrays, Source, SourceOptions, TensorSpec

# Options beyond seed, trust and custom objects that a kind of source understands; the others would be ignored silently.
_UNDERSTOOD = {
    "zoo": {"weights", "classes", "input_shape", "logits"},
    "keras": {"weights", "classes", "input_shape", "logits", "kwargs"},
    "function": {"weights", "input_shape", "kwargs"},
    "file": {"input_shape", "builder", "kwargs"},
}
_SPELLING = {
    "weights": "--weights",
    "classes": "--classes",
    "input_shape": "--input-shape",
    "logits": "--logits",
    "builder": "--builder",
    "kwargs": "--kwargs",
}
_ADVICE = {
    "zoo": "the zoo's architectures take no arguments; use package.module:function for a builder of your own",
    "keras": "keras: builds by itself; leave the option out",
    "function": "give it to your function with --kwargs JSON",
    "file": "the file fixes it already; leave the option out, or use package.module:function",
}


def load(
    text: str,
    options: SourceOptions,
    sample_inputs: Callable[[tuple[TensorSpec, ...], int], Arrays] | None = None,
    commands: Iterable[str] = (),
) -> Source:
    """The model that `text` names, built, with finite weights, not compiled.

    `sample_inputs(specs, count)` makes the inputs that untrained weights are calibrated with; the default is
    `converter.core.samples.generate` in the range of the model's preprocessing. `commands` are further words that an unknown
    name is compared with.

    Raises UsageError for an unknown name or an option that does not fit, InputError for what cannot be read or is no
    model, UnsafeError for a file that would run code, ChildError where inspecting a file took too much memory or time,
    UnavailableError without TensorFlow.
    """
    kind = kind_of(text)
    if kind == "unknown":
        raise UsageError(_unknown(text, commands))
    _refuse_ignored_options(kind, options)
    if kind != "file":  # a file is inspected first, by a process without TensorFlow
        quiet_tensorflow()
    if kind == "zoo":
        from converter.sources.zoo_models import load_zoo

        return load_zoo(text, options, sample_inputs)
    if kind == "keras":
        from converter.sources.applications import load_application

        return load_application(text, options, sample_inputs)
    if kind == "function":
        from converter.sources.functions import load_function

        return load_function(text, options)
    from converter.sources.files import load_file

    return load_file(text, options)


def load_object(
    model: Any,
    *,
    name: str | None = None,
    input_shape: Any = None,
    preprocessing: Mapping[str, Any] | None = None,
    labels: tuple[str, ...] = (),
    untrained: bool = False,
) -> Source:
    """A `keras.Model` from Python as a Source; `input_shape` (without batch) builds one that was never called.

    Raises InputError where `model` is no keras.Model, is not built, or holds a weight that is NaN or infinite.
    """
    from converter.sources.finish import finish

    title = name or str(getattr(model, "name", "") or "model")
    source = finish(model, title, "function", {"object": type(model).__name__}, input_shape=input_shape)
    return replace(
        source, preprocessing=dict(preprocessing or source.preprocessing), labels=labels, untrained=untrained
    )


def _refuse_ignored_options(kind: str, options: SourceOptions) -> None:
    for field, spelling in _SPELLING.items():
        value = getattr(options, field)
        given = bool(value) if field in ("logits", "kwargs") else value is not None
        if given and field not in _UNDERSTOOD[kind]:
            raise UsageError(f"{spelling}: does not apply here\n{_ADVICE[kind]}")
    if kind == "file" and options.kwargs and not options.builder:
        raise UsageError("--kwargs: a model file takes no arguments\ngive --builder module:function as well")


def _unknown(text: str, commands: Iterable[str]) -> str:
    commands = list(commands)
    guess = nearest(text, [*known_names(), *commands])
    if guess in commands:
        hint = f"did you mean the command `cnnexport {guess}`?"
    elif guess:
        hint = f"did you mean {guess}?"
    else:
        hint = f"the zoo has {', '.join(known_names())}"
    others = "also possible: a .keras or .h5 file, keras:Name, package.module:function"
    return f"{text or '(empty)'}: no such model\n{hint}\n{others}"
