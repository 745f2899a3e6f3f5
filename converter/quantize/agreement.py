"""How far the int8 files of two formats agree, tensor by tensor: `python -m converter.quantize.agreement`, with a job.

Both follow one plan, so that what they store should be equal; the kernels of two libraries round differently. Stored
values are compared, on the samples that prove, in LiteRT without a delegate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from converter.bundle.manifest import artifact_from_json
from converter.core.data import Array, Arrays, Artifact
from converter.core.errors import ChildError, InputError
from converter.core.foreign import Facts, Json
from converter.core.jsonable import Fields
from converter.proof import isolate
from converter.proof.child import as_declared, main
from converter.quantize.observe import RUNTIMES_OF
from converter.runtimes import RUNTIMES

CHILD = "converter.quantize.agreement"
STORED = {"onnx": ("{}/q",), "tflite": ("{}/int8", "{}")}
"""The names that a tensor may have in int8, by format"""

_ABOVE = 128  # of uint8 in ONNX
_SAMPLES = 8
_AT_ONCE = 48


@dataclass(frozen=True)
class Agreement:
    """Of how many tensors every stored value is equal, and the first one of which not, with the share that is."""

    tensors: int
    equal: int
    first: str = ""
    share: float = 1.0


@dataclass(frozen=True)
class AgreeJob:
    """Compare the stored values of pairs of tensors, `ones` of the first artifact and `others` of the second."""

    directory: Path
    artifacts: tuple[Artifact, ...]
    ones: tuple[str, ...]
    others: tuple[str, ...]
    inputs: Path


def agreement(
    directory: Path, artifacts: Sequence[Artifact], pairs: Mapping[str, str], inputs: Arrays
) -> Agreement | None:
    """The agreement of two int8 artifacts; `pairs` has the tensor of the first by that of the second, in their order.

    None if no pair is stored in int8 in both, or a runtime does not show them.
    """
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
        given = Path(scratch, "inputs.npz")
        some = {quote(name, safe=""): array[:_SAMPLES] for name, array in inputs.items()}
        np.savez(given, allow_pickle=False, **some)
        job = AgreeJob(directory, tuple(artifacts), tuple(pairs.values()), tuple(pairs), given)
        try:
            shares = isolate.call(CHILD, job, "the int8 tensors of both formats")["shares"]
        except (ChildError, InputError):
            return None
    if not shares:
        return None
    first = next(((name, share) for name, share in shares if share < 1), ("", 1.0))
    return Agreement(len(shares), sum(share == 1 for _, share in shares), *first)


def run(raw: Json) -> Facts:
    """Do the `AgreeJob` in `raw`: the share of equal values of each pair that both files store."""
    fields = Fields(raw, "job")
    with np.load(fields.get("inputs", str), allow_pickle=False) as given:
        inputs = {unquote(name): given[name] for name in given.files}
    artifacts = [artifact_from_json(each) for each in fields.get("artifacts", list)]
    names = fields.strings("ones"), fields.strings("others")
    sides = [
        _stored(Path(fields.get("directory", str)), artifact, wanted, inputs)
        for artifact, wanted in zip(artifacts, names, strict=True)
    ]
    shares = []
    for one, other in zip(*names, strict=True):
        if one in sides[0] and other in sides[1]:
            share = _share(sides[0][one], sides[1][other])
            if share is not None:
                shares.append((one, share))
    return {"shares": shares}


def _stored(directory: Path, artifact: Artifact, names: Sequence[str], inputs: Arrays) -> dict[str, Array]:
    """What the file stores in int8 of each tensor of `names`, as int16."""
    read = RUNTIMES[RUNTIMES_OF[artifact.format]].tensors
    assert read is not None
    wanted = {form.format(name): name for name in names for form in STORED[artifact.format]}
    fixed = artifact.inputs[0].shape[0]
    count = fixed or len(next(iter(inputs.values())))
    declared = {spec.name: as_declared(inputs[spec.name], spec) for spec in artifact.inputs}
    batch = {name: np.ascontiguousarray(array[np.arange(count) % len(array)]) for name, array in declared.items()}
    found = {}
    for watched in read(directory / artifact.path, artifact, "cpu", list(wanted), _AT_ONCE):
        for name, array in watched(batch):
            if name in wanted and array.dtype in (np.int8, np.uint8):
                above = _ABOVE if array.dtype == np.uint8 else 0
                found[wanted[name]] = array.astype(np.int16) - above
    return found


def _share(one: Array, other: Array) -> float | None:
    """The share of equal values; `one` may be channels-first where `other` is channels-last. None for other shapes."""
    forms = [one, *([np.moveaxis(one, 1, -1)] if one.ndim > 2 else [])]
    fitting = [float(np.mean(each == other)) for each in forms if each.shape == other.shape]
    return max(fitting, default=None)


if __name__ == "__main__":
    main(run)
