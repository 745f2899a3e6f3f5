"""What an artifact says about itself: the preprocessing, labels and interface that an export wrote into it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from converter.core.errors import InputError
from converter.data.about import ABOUT_FILE, MAX_BYTES
from converter.runtimes.shared.onnx_records import onnx_metadata

FORMATS = {".onnx": "onnx", ".tflite": "tflite"}
EXTRA = "assets.extra"


def format_of(path: Path) -> str:
    """The format of an artifact by its name: "onnx", "tflite" or "saved-model". Raises InputError for anything else."""
    try:
        if path.is_dir():
            if (path / "saved_model.pb").is_file():
                return "saved-model"
            raise InputError(f"{path}: neither an export nor a SavedModel\ngive a directory with a manifest.json")
        if not path.is_file():
            raise InputError(f"{path}: no such file or directory\ncheck the path")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: not an artifact\ngive a .onnx or .tflite file, a SavedModel, or an export")
    return FORMATS[path.suffix.lower()]


def entries_of(path: Path) -> dict[str, str]:
    """The metadata in the artifact `path`, as texts by key; empty where there are none. Raises InputError."""
    form = format_of(path)
    if form == "onnx":
        return onnx_metadata(path)
    try:
        if form == "saved-model":
            file = path / EXTRA / ABOUT_FILE
            if not file.is_file():
                return {}
            if file.stat().st_size > MAX_BYTES:
                raise InputError(f"{file}: larger than {MAX_BYTES >> 20} MB")
            text = file.read_text(encoding="utf-8")
        else:
            if not zipfile.is_zipfile(path):
                return {}
            with zipfile.ZipFile(path) as archive:
                if ABOUT_FILE not in archive.namelist():
                    return {}
                with archive.open(ABOUT_FILE) as member:
                    text = member.read(MAX_BYTES).decode()
        found = json.loads(text)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path}: its metadata are damaged; export the model again") from error
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise InputError(f"{path}: its metadata are not texts by key; export the model again")
    return found
