"""Attacks in the directory around the artifacts: manifest, golden arrays, signature, and what else lies there."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
from attack import Place, attack

PATHS = "the manifest's paths stay in the directory"
GOLDEN = "the reader of the golden arrays"


def verified(place: Place, *options: str, runtime: str = "onnxruntime") -> list[str]:
    return ["verify", str(place.export), "--runtime", runtime, "--quiet", *options]


def _first(place: Place, **changes: Any) -> None:
    """Change the first artifact of the manifest."""
    first, *others = place.manifest["artifacts"]
    place.rewrite(artifacts=[{**first, **changes}, *others])


@attack("manifest", "an artifact at a path with `..`", 3, "path", PATHS)
def artifact_in_a_parent(place: Place) -> list[str]:
    _first(place, path="../outside/secret")
    return verified(place)


@attack("manifest", "an artifact at an absolute path", 3, "path", PATHS)
def artifact_at_an_absolute_path(place: Place) -> list[str]:
    _first(place, path=str(place.secret))
    return verified(place)


@attack("manifest", "an artifact that is a symbolic link to another file", 3, "model.onnx", "no link is followed")
def artifact_that_is_a_link(place: Place) -> list[str]:
    (place.export / "model.onnx").rename(place.outside / "secret")
    (place.export / "model.onnx").symlink_to(place.outside / "secret")
    place.repair()
    return verified(place)


@attack("manifest", "a batch of two thousand million samples", 8, "a batch of", "the size of an input is bounded")
def batch_of_any_size(place: Place) -> list[str]:
    specs = place.manifest["artifacts"][0]["inputs"]
    _first(place, inputs=[{**each, "shape": [2**31 - 1, *each["shape"][1:]]} for each in specs])
    return verified(place)


@attack(
    "manifest",
    "no artifact at all: nothing that could fail",
    3,
    "which lists none",
    "what compares nothing does not pass",
)
def nothing_to_verify(place: Place) -> list[str]:
    place.rewrite(artifacts=[])
    return verified(place)


@attack("manifest", "a tolerance under which everything passes", 9, "NOT detected",
        "outputs that are wrong on purpose must fail, or nothing passes")  # fmt: skip
def tolerance_of_any_size(place: Place) -> list[str]:
    import onnx

    path = place.export / "model.onnx"
    model = onnx.load(str(path))
    kernel = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    kernel.raw_data = (np.frombuffer(kernel.raw_data, np.float32) * np.float32(1.5)).tobytes()
    path.write_bytes(model.SerializeToString())
    place.repair()
    place.rewrite(tolerance={**place.manifest["tolerance"], "chosen": 1e9})
    return verified(place)


@attack("manifest", "a schema of the future, whose meaning is unknown", 3, "newer", "the schema is checked first")
def schema_of_the_future(place: Place) -> list[str]:
    place.rewrite(schema=10**6)
    return verified(place)


@attack("manifest", "lists nested a hundred thousand deep", 3, "manifest.json", "the reader of JSON")
def manifest_nested_without_end(place: Place) -> list[str]:
    text = json.dumps({**place.manifest, "warnings": "HERE"})
    (place.export / "manifest.json").write_text(text.replace('"HERE"', "[" * 100_000 + "]" * 100_000))
    return verified(place)


@attack("manifest", "a size that is 32 MB of digits", 3, "manifest.json", "the reader of JSON")
def number_without_end(place: Place) -> list[str]:
    text = json.dumps({**place.manifest, "seed": "HERE"})
    (place.export / "manifest.json").write_text(text.replace('"HERE"', "9" * (32 << 20)))
    return verified(place)


@attack("golden", "an array of pickled objects", 3, "object", GOLDEN)
def pickle_among_the_arrays(place: Place) -> list[str]:
    class Evil:
        def __reduce__(self) -> Any:
            return (open, (str(place.target), "w"))

    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([Evil()] * 3), allow_pickle=True)
    with zipfile.ZipFile(place.export / "golden.npz", "a") as archive:
        archive.writestr("exact/x.npy", stream.getvalue())
    place.repair()
    return verified(place)


@attack("golden", "an array of zeros that unpacks to a thousand times its size", 3, "compressed", GOLDEN)
def arrays_that_unpack(place: Place) -> list[str]:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.zeros((3, 10**6)))
    with zipfile.ZipFile(place.export / "golden.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("exact/x.npy", stream.getvalue())
    place.repair()
    return verified(place)


@attack("directory", "a `json.py`, `numpy.py` and `sitecustomize.py` beside the artifacts, in the current directory",
        0, "", "children import nothing from the current directory")  # fmt: skip
def modules_beside_the_artifacts(place: Place) -> list[str]:
    for name in ("json", "numpy", "typing", "sitecustomize", "onnxruntime"):
        for directory in (place.export, place.work):
            (directory / f"{name}.py").write_text(f"open({str(place.target)!r}, 'w')")
    return verified(place)


@attack("directory", "a `node_modules` with a package of the runtime's name", 0, "",
        "JavaScript is not loaded from an artifact directory; what is not listed is named")  # fmt: skip
def javascript_beside_the_artifacts(place: Place) -> list[str]:
    package = place.export / "node_modules" / "onnxruntime-web"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "onnxruntime-web", "version": "6.6.6", "main": "index.js"}')
    (package / "index.js").write_text(f"require('fs').writeFileSync({str(place.target)!r}, 'x')")
    return verified(place)


@attack("names", "escape sequences and CI commands as the model's name", 0, "", "names are shown as text")
def model_name_that_commands(place: Place) -> list[str]:
    place.rewrite(model="\x1b[2J\n::error::passed\n##[error]x", warnings=["::error::x\r##[error]y"])
    return verified(place)


def _signed(place: Place) -> tuple[str, str]:
    """Sign the export; the public key of the signer, and that of another one."""
    from cryptography.hazmat.primitives import serialization as kinds
    from cryptography.hazmat.primitives.asymmetric import ec

    import converter

    paths = []
    for name in ("own", "other"):
        key = ec.generate_private_key(ec.SECP256R1())
        private, public = place.work / f"{name}.pem", place.work / f"{name}.pub"
        pem = kinds.Encoding.PEM
        private.write_bytes(key.private_bytes(pem, kinds.PrivateFormat.PKCS8, kinds.NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(pem, kinds.PublicFormat.SubjectPublicKeyInfo))
        paths.append(str(public))
    converter.sign(place.export, place.work / "own.pem")
    return paths[0], paths[1]


@attack("signature", "kernel, golden arrays and hashes exchanged: the proof itself is forged", 4, "model.onnx",
        "`--key`: the signature of the one who proved it")  # fmt: skip
def proof_that_is_forged(place: Place) -> list[str]:
    public, _ = _signed(place)
    path = place.export / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    place.repair()
    return verified(place, "--key", public)


@attack("signature", "a signature by another key", 4, "key", "`--key`: the signature of the one who proved it")
def signature_of_somebody_else(place: Place) -> list[str]:
    _, other = _signed(place)
    return verified(place, "--key", other)


@attack("signature", "the signature taken away", 4, "not signed", "`--key` demands one")
def signature_taken_away(place: Place) -> list[str]:
    public, _ = _signed(place)
    (place.export / "model.sig").unlink()
    return verified(place, "--key", public)


@attack(
    "signature", "a file added that the signature does not cover", 4, "extra.py", "the signature covers the whole set"
)
def file_added_to_a_signed_directory(place: Place) -> list[str]:
    public, _ = _signed(place)
    (place.export / "extra.py").write_text("x")
    return verified(place, "--key", public)
