"""`python -m converter.cli.changed FILE…`: verify each artifact directory that one of the files is in.

The hook of pre-commit calls it with the files of a commit. Files outside of artifact directories are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

MANIFEST = "manifest.json"


def directories(files: Sequence[str]) -> list[Path]:
    """The artifact directories of `files`, each once: the nearest directory upwards with a manifest."""
    found: dict[Path, None] = {}
    for name in files:
        place = next((each for each in Path(name).parents if (each / MANIFEST).is_file()), None)
        if place is not None:
            found[place] = None
    return list(found)


def main(files: Sequence[str]) -> int:
    """Verify each directory; the first exit code that is not 0, else 0."""
    from converter.core.errors import CnnExportError
    from converter.pipeline.verify import verify

    status = 0
    for place in directories(files):
        try:
            report = verify(place)
        except CnnExportError as error:
            sys.stderr.write(f"cnnexport: {error}\n")
            status = status or error.exit_code
            continue
        text = "".join(f"\n  {reason}" for reason in report.reasons) if report.exit_code else ""
        sys.stdout.write(f"{place}: {report.verdict}{text}\n")
        status = status or report.exit_code
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
