"""`load`: decide what the user's text means, refuse options that do not apply, and call the module for that kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from converter.core.errors import UsageError
from converter.core.foreign import Json, KerasModel
from converter.sources.names import kind_of, known_names, nearest
from converter.tracing.context import quick_keras, quiet_tensorflow

if TYPE_CHECKING:  # converter.core.data imports numpy, which `cnnexport list` does not need
    from converter.core.data import Shape, ShapesByInput, Source, SourceOptions

# The options, besides the seed, that each kind of source uses; any other would be ignored silently.
_USED = {
    "zoo": {"weights", "classes", "input_shape", "logits"},
    "keras": {"weights", "classes", "input_shape", "logits", "kwargs"},
    "function": {"weights", "input_shape", "kwargs"},
    "file": {"input_shape", "builder", "kwargs", "trust", "custom_objects"},
}
_SPELLING = {
    "weights": "--weights",
    "classes": "--classes",
    "input_shape": "--input-shape",
    "logits": "--logits",
    "builder": "--builder",
    "kwargs": "--kwargs",
    "trust": "--trust",
    "custom_objects": "--custom-objects",
}
_ABOUT_FILES = {"trust", "custom_objects"}
_ADVICE = {
    "zoo": "the zoo's architectures take no arguments; use package.module:function for a builder of your own",
    "keras": "keras:Name builds the model itself; leave the option out",
    "function": "give it to your function with --kwargs JSON",
    "file": "the file already determines it; leave the option out, or use package.module:function",
}


def load(text: str, options: SourceOptions, commands: Iterable[str] = ()) -> Source:
    """The model that `text` names: built, with finite weights, not compiled.

    `commands` are further words that an unknown name is compared with.

    Raises UsageError for an unknown name or an option that does not apply, InputError for a source that cannot be read
    or is not a model, UnsafeError for a file that would run code, ChildError where inspecting a file took too much
    memory or time, UnavailableError without TensorFlow.
    """
    kind = kind_of(text)
    if kind == "unknown":
        raise UsageError(_unknown(text, commands))
    _refuse_ignored_options(kind, options)
    if kind in ("zoo", "keras"):
        quick_keras()
    elif kind != "file":  # a file is first inspected by a process without TensorFlow
        quiet_tensorflow()
    if kind == "zoo":
        from converter.sources.zoo_models import load_zoo

        return load_zoo(text, options)
    if kind == "keras":
        from converter.sources.applications import load_application

        return load_application(text, options)
    if kind == "function":
        from converter.sources.functions import load_function

        return load_function(text, options)
    from converter.sources.files import load_file

    return load_file(text, options)


def load_object(
    model: KerasModel,
    *,
    name: str | None = None,
    input_shape: Shape | ShapesByInput | None = None,
    preprocessing: Mapping[str, Json] | None = None,
    labels: tuple[str, ...] = (),
    untrained: bool = False,
) -> Source:
    """A `keras.Model` from Python as a Source, for inputs of `input_shape` (without batch), by default its own.

    Raises InputError where `model` is not a keras.Model, is not built, or has a weight that is NaN or infinite,
    UsageError where it cannot take `input_shape`.
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
        given = value is not None if field in ("weights", "classes", "input_shape", "builder") else bool(value)
        if given and field not in _USED[kind]:
            advice = "it applies to model files only; leave it out" if field in _ABOUT_FILES else _ADVICE[kind]
            raise UsageError(f"{spelling}: does not apply here\n{advice}")
        if given and field in _ABOUT_FILES and options.builder:
            raise UsageError(
                f"{spelling}: has no effect with --builder, which makes the model; only weights come from the file\n"
                "leave it out"
            )
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
