"""Checks the signature of an artifact directory against a public key, before anything in the directory is read."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from converter.bundle.manifest import SIGNATURE
from converter.core.errors import InputError, UnavailableError, UnsafeError
from converter.core.foreign import Module
from converter.core.text import one_line

MODULES = {
    "signing": "model_signing.signing",
    "verifying": "model_signing.verifying",
    "hashing": "model_signing.hashing",
    "serialization": "cryptography.hazmat.primitives.serialization",
    "elliptic": "cryptography.hazmat.primitives.asymmetric.ec",
}
MAX_BYTES = 64 << 20  # of a signature, which lists every file


def library(name: str) -> Module:
    """A module of the extra `sign`, see `MODULES`. Raises UnavailableError without it."""
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as error:
        raise UnavailableError(f"signatures: {error}\npip install 'cnnexport[sign]'") from error


def covered() -> Module:
    """What a signature covers: every file of its directory but itself, hidden ones too, and no links."""
    return library("hashing").Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def check_signature(directory: Path, key: Path) -> None:
    """Check that every file of `directory` is as it was signed by the owner of the public key in the PEM file `key`.

    Raises UnsafeError if the directory has no signature, if another key signed it, and if a file was changed, added or
    removed since; InputError if `key` holds no elliptic-curve public key; UnavailableError without the extra `sign`.
    """
    _check_public(key)
    verifying = library("verifying")
    path = directory / SIGNATURE
    try:
        if not path.is_file():
            raise UnsafeError(f"{directory}: not signed, it has no {SIGNATURE}")
        if path.stat().st_size > MAX_BYTES:
            raise UnsafeError(f"{path}: not a signature, it is larger than {MAX_BYTES >> 20} MB")
        config = verifying.Config().use_elliptic_key_verifier(public_key=key).set_hashing_config(covered())
        config.verify(directory, path)
    except UnsafeError:
        raise
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror or error}") from error
    except ValueError as error:
        if str(error).startswith("Signature mismatch"):
            raise UnsafeError(f"{directory}: not as it was signed: {_differences(str(error))}") from error
        raise UnsafeError(f"{path}: the signature does not hold: {one_line(error)}") from error
    except Exception as error:  # classes of cryptography, protobuf and the signature's own JSON
        told = one_line(error) if str(error) else type(error).__name__
        raise UnsafeError(f"{path}: the signature does not hold for --key {key}: {told}") from error


def _differences(told: str) -> str:
    """The files that differ, from the library's list of sentences, without their hashes."""
    changed = re.findall(r"Hash mismatch for '([^']*)'", told)
    others = re.findall(r"(Extra|Missing) files (?:found )?in model '[^']*': ([^\"\]]*)", told)
    found = [f"{kind.lower()} {names.rstrip(chr(39) + ', ')}" for kind, names in others]
    return one_line("; ".join([*found, *([f"changed {', '.join(changed)}"] if changed else [])]) or told, 600)


def _check_public(path: Path) -> None:
    serialization, elliptic = library("serialization"), library("elliptic")
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise InputError(f"--key {path}: {error.strerror or error}") from error
    except Exception as error:  # cryptography has many classes for what is no key
        raise InputError(f"--key {path}: not a public key in PEM: {one_line(error)}") from error
    if not isinstance(key, elliptic.EllipticCurvePublicKey):
        raise InputError(f"--key {path}: not an elliptic-curve public key")
