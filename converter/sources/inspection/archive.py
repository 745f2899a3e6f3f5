"""The zip archive of a `.keras` file: only the members that Keras writes are unpacked, within limits of size."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from pathlib import Path

from converter.core.errors import InputError, UnsafeError

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
ASSET = re.compile(r"assets/([A-Za-z0-9_. \-]+/)*([A-Za-z0-9_. \-]+)?")
MAX_JSON = 16 << 20  # bytes of configuration: 1,201 layers take 1.2 MB, and Python objects 50 times their text
MAX_WEIGHTS = 16 << 30
MAX_MEMBERS = 10_000
MAX_RATIO = 20  # Keras stores without compression; float weights hardly compress at all
RATIO_FLOOR = 16 << 20  # bytes; below this size the ratio is not checked
BLOCK = 1 << 20
DAMAGED = "the file is damaged; save or download it again"


def unpack(path: Path, directory: Path) -> tuple[bytes, bytes, bool]:
    """`config.json`, `metadata.json` (empty where absent), and whether there are assets; weights go to `directory`.

    Every member is read to its end, so that its checksum is checked. Raises UnsafeError for a member that Keras does
    not write or that is far too large, InputError where the archive is damaged or a member is missing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in _checked(archive)}
            for name in (CONFIG, WEIGHTS):
                if name not in members:
                    raise InputError(f"{name} is missing from the archive: {_contents(members)}\n{DAMAGED}")
            config = _read(archive, members[CONFIG])
            metadata = _read(archive, members[METADATA]) if METADATA in members else b""
            with archive.open(members[WEIGHTS]) as source, (directory / WEIGHTS).open("wb") as target:
                while block := source.read(BLOCK):
                    target.write(block)
            assets = [info for name, info in members.items() if name.startswith("assets/") and not info.is_dir()]
            for info in assets:
                _read(archive, info)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"the archive cannot be read: {error}\n{DAMAGED}") from error
    return config, metadata, bool(assets)


def _checked(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise UnsafeError(f"the archive declares {len(members)} members\nrefused; a model has only a few")
    seen: set[str] = set()
    for info in members:
        name = info.filename
        link = stat.S_ISLNK(info.external_attr >> 16)
        known = name in (CONFIG, METADATA, WEIGHTS) or (ASSET.fullmatch(name) and ".." not in name.split("/"))
        if not known or link or name in seen:
            fault = "is a symbolic link" if link else "occurs twice" if name in seen else "is not one that Keras writes"
            raise UnsafeError(f"the archive's member {name[:80]!r} {fault}\nrefused; save the model again with Keras")
        seen.add(name)
        limit = MAX_WEIGHTS if name == WEIGHTS else MAX_JSON
        bomb = info.file_size > RATIO_FLOOR and info.file_size > MAX_RATIO * info.compress_size
        if info.file_size > limit or bomb:
            raise UnsafeError(
                f"the archive's member {name} declares {info.file_size:,} bytes in {info.compress_size:,}\n"
                "refused; it is a decompression bomb, not a model"
            )
    return members


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        return member.read(MAX_JSON + 1)


def _contents(members: dict[str, zipfile.ZipInfo]) -> str:
    return f"it holds {', '.join(list(members)[:5])}" if members else "it is empty"
