"""The trace of a model -> a file in each format that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from converter.core.clock import Clock
from converter.core.data import Artifact, Source, Traced
from converter.core.disk import FULL, output_error
from converter.core.errors import CnnExportError, ConversionError
from converter.core.text import reason_of
from converter.pipeline.options import ExportOptions
from converter.pipeline.text_inputs import refuse_text_inputs
from converter.tracing.signature import Signature


def write_formats(
    source: Source, signature: Signature, traced: Traced, options: ExportOptions, directory: Path, clock: Clock
) -> Iterator[Artifact | str]:
    """Each written artifact as soon as it is there, or a sentence for a format that could not be written.

    What a library raises for a model that it was not made for costs the other formats nothing. Raises what the library
    raised, or ConversionError, if no format could be written, and what `Format.write` raises for a full disk.
    """
    from converter.formats import FORMATS

    written, failures = 0, []
    unexpected: Exception | None = None
    for name in dict.fromkeys(options.formats):
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
        raise ConversionError("\n".join(failures))
