"""`load`: loads the Keras model of a source without exporting it."""

from __future__ import annotations

from typing import Unpack

from converter.core.data import Source
from converter.core.disk import writing
from converter.pipeline.arguments import source_options
from converter.pipeline.checks import refuse_unknown
from converter.pipeline.options import ModelOrPath, SourceKeywords


@writing()
def load(model: ModelOrPath, **keywords: Unpack[SourceKeywords]) -> Source:
    """The model of a source, built and with finite weights, and its metadata: `load("resnet50").model`.

    `model` is a source as in `converter.export`. Raises UsageError for a wrong argument, InputError if the source
    cannot be read or is not a model, and UnsafeError for an untrusted file that would run code.
    """
    from converter.sources import opened

    refuse_unknown(keywords, SourceKeywords, "load")
    return opened(model, source_options(keywords)).load()
