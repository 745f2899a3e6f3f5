"""`package`: lays the proven files of an export out for a server, by hard links, and never converts again."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypedDict, Unpack

from converter.bundle.proven import Proven, read_proven
from converter.core.ending import removed_at_end
from converter.core.errors import OutputError, UsageError
from converter.serving import hub, kserve, oci, ovms, tf_serving, triton
from converter.serving.content import FORMATS, Files, PackageOptions

LAYOUTS: dict[str, Callable[[Proven, PackageOptions], Files]] = {
    "triton": triton.layout,
    "tf-serving": tf_serving.layout,
    "ovms": ovms.layout,
    "kserve": kserve.layout,
    "hub": hub.layout,
    "oci": oci.layout,
}


class PackageKeywords(TypedDict, total=False):
    """The keywords of `converter.package`: the fields of `PackageOptions`."""

    name: str
    version: int
    form: str | None
    precision: str
    max_batch: int
    base_path: str


@dataclass(frozen=True)
class Package:
    """What `package` wrote: its directory, and its files with how each came there: "linked", "copied" or "written"."""

    directory: str
    server: str
    files: dict[str, str]


def package(
    directory: str | PathLike[str],
    server: str,
    output: str | PathLike[str],
    *,
    copy: bool = False,
    **keywords: Unpack[PackageKeywords],
) -> Package:
    """Lay the export in `directory` out for `server`, a name in `LAYOUTS`, in the new directory `output`.

    The proven files are hard links, or copies if `copy` is set or the file system has no links to them; a link shares
    its bytes with the export. Raises UsageError for an unknown server or an artifact that the export does not have,
    InputError for a directory that is not an intact export, ParityError or InconclusiveError for one that is not
    proven, and OutputError if `output` exists or cannot be written.
    """
    options = _options(server, keywords)
    proven = read_proven(Path(directory))
    files = LAYOUTS[server](proven, options)
    target = Path(output)
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(f"{target}: exists already\ngive another --output, or remove it")
    if target.resolve().is_relative_to(proven.directory.resolve()):
        raise UsageError(f"{target}: is inside of the export, which must contain only its own files")
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with removed_at_end(partial):
            kinds = {name: _place(partial / name, each, copy) for name, each in files.items()}
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Package(str(target), server, dict(sorted(kinds.items())))


def _options(server: str, keywords: PackageKeywords) -> PackageOptions:
    if server not in LAYOUTS:
        raise UsageError(f"{server}: no such server\nknown are {', '.join(LAYOUTS)}")
    options = PackageOptions(**keywords)
    if options.version < 1 or options.max_batch < 1:
        raise UsageError("package: version and largest batch must be at least 1")
    if options.form is not None and options.form not in FORMATS:
        raise UsageError(f"--format {options.form}: no such format\nknown are {', '.join(FORMATS)}")
    return options


def _place(path: Path, content: Path | str, copy: bool) -> str:
    """Write one file of the package; returns how. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
        return "written"
    if not copy:
        try:
            os.link(content, path)
        except OSError:  # another file system, or one without links
            pass
        else:
            return "linked"
    shutil.copyfile(content, path)
    return "copied"
