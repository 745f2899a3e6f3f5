"""`load`: the Keras model of a source, without exporting it."""

from __future__ import annotations

from typing import Unpack

from converter.core.data import Source
from converter.pipeline.arguments import refuse_unknown, source_options
from converter.pipeline.options import ModelOrPath, SourceKeywords


def load(model: ModelOrPath, **keywords: Unpack[SourceKeywords]) -> Source:
    """The model of a source, built, with finite weights, and what is known of it: `load("resnet50").model`.

    `model` is what `converter.export` takes. Raises UsageError for a wrong argument, InputError for what cannot be read
    or is no model, UnsafeError for a file that would run code and was not trusted.
    """
    from converter.sources import opened

    refuse_unknown(keywords, SourceKeywords, "load")
    return opened(model, source_options(keywords)).load()
