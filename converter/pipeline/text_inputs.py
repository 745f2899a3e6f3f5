"""Models that take text: the words that its layers know, and which outputs and formats text is refused for."""

from __future__ import annotations

from converter.core.data import Array, Format, TensorSpec
from converter.core.errors import ConversionError
from converter.core.foreign import KerasModel
from converter.core.samples import sample_shape
from converter.core.texts import draw_texts
from converter.sources.entry import text_layers
from converter.tracing.signature import Signature
from converter.tracing.trace import trace

TEXT = "string"
_SPECIAL = ("", "[UNK]")


def texts(model: KerasModel, specs: tuple[TensorSpec, ...], count: int, seed: int) -> dict[str, Array]:
    """Seeded texts for each input of `specs` that is text, of words that the lookup layers of `model` know."""
    wanted = [spec for spec in specs if spec.dtype == TEXT]
    if not wanted:
        return {}
    layers = text_layers(model)
    words = [word for layer in layers if hasattr(layer, "get_vocabulary") for word in layer.get_vocabulary()]
    known = [str(word) for word in dict.fromkeys(words) if isinstance(word, str) and word not in _SPECIAL]
    sentences = any(type(layer).__name__ == "TextVectorization" for layer in layers)
    return {
        spec.name: draw_texts(spec.name, (count, *sample_shape(spec)), seed, known, sentences=sentences)
        for spec in wanted
    }


def refuse_text_outputs(model: KerasModel, signature: Signature) -> None:
    """Raise ConversionError where an output of `model` is text: nothing measures how far two texts differ.

    Keras says of a StringLookup from indices to text that it returns integers, so the graph decides.
    """
    if not text_layers(model):
        return
    try:
        outputs = tuple(trace(model, signature).outputs.values())
    except ConversionError:
        outputs = signature.outputs
    for spec in outputs:
        if spec.dtype == TEXT:
            raise ConversionError(
                f"{model.name}: output {spec.name} is text{_named(model)}\n"
                "end the model at the numbers, and look the texts up outside of it"
            )


def refuse_text_inputs(model: KerasModel, signature: Signature, form: Format) -> None:
    """Raise ConversionError where an input of `model` is text and the format `form` has none."""
    for spec in signature.inputs:
        if spec.dtype == TEXT and not form.text:
            raise ConversionError(
                f"input {spec.name} is text{_named(model)}, which {form.name} cannot hold\n"
                "export saved-model, or a model that begins after this layer"
            )


def _named(model: KerasModel) -> str:
    found = [f"{layer.name} ({type(layer).__name__})" for layer in text_layers(model)]
    return f" for {', '.join(found[:3])}" if found else ""
