"""Names of inputs and outputs paired strictly: those of a file, or of a loaded model, with those of its artifact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converter.core.data import Artifact
from converter.core.errors import InputError
from converter.runtimes.shared.onnx_records import onnx_names


def require_names(path: Path, side: str, declared: Sequence[str], found: Sequence[str]) -> None:
    """Raise InputError unless `found` has exactly the names of `declared`, each once; `side` is "input" or "output".

    Names that only one side has are never paired by position: outputs would then be exchanged unnoticed.
    """
    if sorted(declared) != sorted(found):
        raise InputError(
            f"{path}: its {side}s are {', '.join(sorted(found))[:200] or '(none)'}, "
            f"but the manifest declares {', '.join(sorted(declared))[:200]}"
        )


def require_interface(path: Path, artifact: Artifact, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raise InputError unless `inputs` and `outputs`, as found in `path`, have exactly the names of `artifact`."""
    require_names(path, "input", [spec.name for spec in artifact.inputs], inputs)
    require_names(path, "output", [spec.name for spec in artifact.outputs], outputs)


def onnx_interface(path: Path, artifact: Artifact) -> tuple[list[str], list[str]]:
    """The names of an ONNX file's inputs and outputs, in the file's order.

    Raises InputError where the file is damaged or its names are not those of `artifact`.
    """
    inputs, outputs = onnx_names(path)
    require_interface(path, artifact, inputs, outputs)
    return inputs, outputs
