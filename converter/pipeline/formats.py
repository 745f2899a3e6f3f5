"""The trace of a model -> a file in each format that was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from converter.core.clock import Clock
from converter.core.data import Artifact, Source, Traced
from converter.core.disk import FULL, output_error
from converter.core.errors import CnnExportError, ConversionError
from converter.core.text import reason_of
from converter.pipeline.options import ExportOptions
from converter.pipeline.text_inputs import refuse_text_inputs
from converter.tracing.signature import Signature

_Found = TypeVar("_Found", Artifact, str)

FIRST = "saved-model"
"""The format that is written first: to run it takes longest, and goes on while the others are written."""


def write_formats(
    source: Source, signature: Signature, traced: Traced, options: ExportOptions, directory: Path, clock: Clock
) -> Iterator[Artifact | str]:
    """Each written artifact as soon as it is there, or a sentence for a format that could not be written.

    They come in the order in which they are written; `in_order` brings them into that of the options.

    What a library raises for a model that it was not made for costs the other formats nothing. Raises what the library
    raised, or ConversionError, if no format could be written, and what `Format.write` raises for a full disk.
    """
    from converter.formats import FORMATS

    written, failures = 0, list[str]()
    unexpected: Exception | None = None
    for name in sorted(dict.fromkeys(options.formats), key=lambda name: name != FIRST):
        with clock(f"write {name}"):
            try:
                refuse_text_inputs(source.model, signature, FORMATS[name])
                found: Artifact | str = FORMATS[name].write(traced, directory, options.write)
                written += 1
            except ConversionError as error:
                if output_error(error, codes=FULL):
                    raise
                found = f"{name}: {error}"
            except (CnnExportError, OSError, MemoryError):
                raise
            except Exception as error:
                if output_error(error):  # in the words of the library that wrote
                    raise
                unexpected = unexpected or error
                found = f"{name}: cannot be written: {reason_of(error)}\nexport another format"
        if isinstance(found, str):
            failures.append(found)
        yield found
    if not written and unexpected is not None:
        raise unexpected
    if not written:
        raise ConversionError("\n".join(in_order(failures, options.formats)))


def in_order(found: Sequence[_Found], formats: Sequence[str]) -> list[_Found]:
    """Artifacts, or sentences for formats that could not be written, in the order of `formats`."""
    return sorted(
        found, key=lambda each: formats.index(each.partition(":")[0] if isinstance(each, str) else each.format)
    )
