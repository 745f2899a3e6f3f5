"""Signed directories: what is added is valid by the reference tools, and every change, and another key, is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import converter
from converter.bundle.manifest import ATTESTATION, BOM, SIGNATURE
from converter.core.errors import InconclusiveError, InputError, ParityError, UnsafeError, UsageError

Keys = Callable[..., tuple[Path, Path]]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Makes a private and a public key in PEM files; on an elliptic curve unless another one is given."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def make(name: str = "key", password: str = "", private: Any = None) -> tuple[Path, Path]:
        private = private or ec.generate_private_key(ec.SECP256R1())
        how = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        files = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
        pem, kinds = serialization.Encoding.PEM, serialization
        files[0].write_bytes(private.private_bytes(pem, kinds.PrivateFormat.PKCS8, how))
        files[1].write_bytes(private.public_key().public_bytes(pem, kinds.PublicFormat.SubjectPublicKeyInfo))
        return files

    return make


def test_a_signed_directory_is_verified(copied: Path, keys: Keys, cnnexport: Any) -> None:
    private, public = keys()
    outcome = cnnexport("sign", copied, "--key", private)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert f"{BOM}, {ATTESTATION}, {SIGNATURE}" in outcome.stdout
    assert converter.verify(copied, runtimes="onnxruntime", key=public).verdict == "pass"
    assert converter.verify(copied / "model.onnx", key=public).verdict == "pass"
    assert converter.verify(copied, runtimes="onnxruntime").verdict == "pass"  # the added files do not disturb it
    again = converter.sign(copied, private)  # a second signature replaces the first
    assert again.files == (BOM, ATTESTATION, SIGNATURE)
    assert converter.verify(copied, runtimes="onnxruntime", key=public).verdict == "pass"


def test_a_directory_with_a_relative_path(
    copied: Path, keys: Keys, cnnexport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys()
    monkeypatch.chdir(copied.parent)
    assert cnnexport("sign", copied.name, "--key", private).code == 0
    for path in (copied.name, copied):
        outcome = cnnexport("verify", path, "--key", public, "--runtime", "onnxruntime", "--quiet")
        assert outcome.code == 0, outcome


def test_the_reference_tool_accepts_the_signature(copied: Path, keys: Keys) -> None:
    private, public = keys()
    converter.sign(copied, private)
    own = copied / SIGNATURE
    command = [
        sys.executable,
        "-m",
        "model_signing",
        "verify",
        "key",
        copied,
        "--signature",
        own,
        "--ignore-paths",
        own,
    ]
    command += ["--public_key", public]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (copied / "model.onnx").write_bytes(b"other")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "model.onnx" in done.stdout + done.stderr


def altered(directory: Path) -> str:
    path = directory / "model.tflite"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return "model.tflite"


def altered_verdict(directory: Path) -> str:
    path = directory / ATTESTATION
    path.write_text(path.read_text().replace("FAILED", "PASSED").replace("PASSED", "WARNED"))
    return ATTESTATION


def altered_manifest(directory: Path) -> str:
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["labels"] = ["other"]
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return "manifest.json"


def added(directory: Path) -> str:
    (directory / "saved_model" / "extra.bin").write_bytes(b"x")
    return "saved_model/extra.bin"


def hidden(directory: Path) -> str:
    (directory / ".git").mkdir()
    (directory / ".git" / "hook").write_bytes(b"x")
    return ".git/hook"


def removed(directory: Path) -> str:
    (directory / "golden.npz").unlink()
    return "golden.npz"


def linked(directory: Path) -> str:
    (directory / "model.onnx").rename(directory.parent / "elsewhere.onnx")
    (directory / "model.onnx").symlink_to(directory.parent / "elsewhere.onnx")
    return "model.onnx"


def unsigned(directory: Path) -> str:
    (directory / SIGNATURE).unlink()
    return "not signed"


def emptied(directory: Path) -> str:
    (directory / SIGNATURE).write_bytes(b"")
    return SIGNATURE


def nonsense(directory: Path) -> str:
    (directory / SIGNATURE).write_text(
        json.dumps({"mediaType": "x", "dsseEnvelope": {"payload": "AA==", "signatures": []}})
    )
    return SIGNATURE


@pytest.mark.parametrize(
    "change",
    [altered, altered_verdict, altered_manifest, added, hidden, removed, linked, unsigned, emptied, nonsense],
)
def test_a_change_is_refused(change: Callable[[Path], str], copied: Path, keys: Keys, cnnexport: Any) -> None:
    private, public = keys()
    converter.sign(copied, private)
    named = change(copied)
    outcome = cnnexport("verify", copied, "--key", public, "--quiet")
    assert outcome.code == 4, outcome
    assert named in outcome.stderr
    assert outcome.stdout == ""


def test_another_key_is_refused(copied: Path, keys: Keys) -> None:
    private, _ = keys()
    _, other = keys("other")
    converter.sign(copied, private)
    with pytest.raises(UnsafeError, match="signature does not hold"):
        converter.verify(copied, key=other)


def test_keys_that_are_none(copied: Path, keys: Keys, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    private, public = keys()
    locked, _ = keys("locked", password="open sesame")
    big, big_public = keys("rsa", private=rsa.generate_private_key(65537, 2048))
    (tmp_path / "text.pem").write_text("no key")
    with pytest.raises(InputError, match="not an elliptic-curve key"):
        converter.sign(copied, big)
    with pytest.raises(InputError, match="not an elliptic-curve public key"):
        converter.verify(copied, key=big_public)
    with pytest.raises(UsageError, match="encrypted; add --password"):
        converter.sign(copied, locked)
    with pytest.raises(InputError, match="wrong password"):
        converter.sign(copied, locked, password="guess")
    with pytest.raises(UsageError, match="has no password"):
        converter.sign(copied, private, password="needless")
    for path in (tmp_path / "text.pem", tmp_path / "missing.pem", public):
        with pytest.raises(InputError, match="--key"):
            converter.sign(copied, path)
    for path in (tmp_path / "text.pem", tmp_path / "missing.pem", private):
        with pytest.raises(InputError, match="--key"):
            converter.verify(copied, key=path)
    assert not (copied / SIGNATURE).exists()
    converter.sign(copied, locked, password="open sesame")


def test_what_is_not_proven_is_not_signed(copied: Path, keys: Keys, tmp_path: Path) -> None:
    private, _ = keys()
    report = copied / "report.json"
    content = json.loads(report.read_text())
    for verdict, kind in (("fail", ParityError), ("inconclusive", InconclusiveError)):
        report.write_text(json.dumps({**content, "verdict": verdict}))
        with pytest.raises(kind, match="not signed"):
            converter.sign(copied, private)
    report.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="signed as a whole"):
        converter.sign(copied / "model.onnx", private)
    with pytest.raises(InputError, match="not an export"):
        converter.sign(tmp_path, private)
    (copied / "model.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"model\.onnx"):
        converter.sign(copied, private)
    assert not any((copied / name).exists() for name in (BOM, ATTESTATION, SIGNATURE))


def test_a_signed_export_is_replaced_by_the_next(copied: Path, keys: Keys, nets: Path) -> None:
    private, _ = keys()
    converter.sign(copied, private)
    converter.export("tiny_nets:two_heads", output=copied, formats="onnx", samples=2, force=True)
    assert not (copied / SIGNATURE).exists()


def test_the_bill_of_materials_is_valid_cyclonedx(copied: Path, keys: Keys) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    private, _ = keys()
    converter.sign(copied, private)
    text = (copied / BOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    manifest = json.loads((copied / "manifest.json").read_text())
    files = {each["name"]: each["hashes"][0]["content"] for each in found["components"] if each["type"] == "file"}
    assert files == {name: each["sha256"] for name, each in manifest["files"].items()}
    libraries = {each["name"]: each["version"] for each in found["components"] if each["type"] == "library"}
    assert libraries == manifest["environment"]["versions"]
    model = found["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert {"name": "cnnexport:verdict", "value": "pass"} in model["properties"]
    assert len(model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]) >= 6


def test_the_attestation_is_a_valid_statement(copied: Path, keys: Keys) -> None:
    from google.protobuf.json_format import Parse
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    private, _ = keys()
    converter.sign(copied, private)
    text = (copied / ATTESTATION).read_text()
    message = Parse(text, statement_pb2.Statement())
    Statement.copy_from_pb(message).validate()
    predicate = json.loads(text)["predicate"]
    assert predicate["result"] == "PASSED"
    assert predicate["failedTests"] == []
    assert "onnx in onnxruntime on cpu" in predicate["passedTests"]
    assert any(name.startswith("control: ") for name in predicate["passedTests"])


def test_without_the_extra(copied: Path, keys: Keys, tmp_path: Path) -> None:
    private, public = keys()
    blocked = tmp_path / "blocked" / "model_signing"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('no module named model_signing')")
    for words in (["sign", copied, "--key", private], ["verify", copied, "--key", public]):
        done = subprocess.run(
            [sys.executable, "-m", "converter", *map(str, words)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(blocked.parent), *sys.path])},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 5, done
        assert "cnnexport[sign]" in done.stderr


def test_a_directory_that_cannot_be_written(copied: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    from converter.signing import sign as module

    private, _ = keys()

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "_replace", full)
    with pytest.raises(converter.OutputError, match="No space left"):
        converter.sign(copied, private)
    shutil.rmtree(copied)
