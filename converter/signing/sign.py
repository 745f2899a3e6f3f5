"""`sign`: the bill of materials, the attestation, and an OpenSSF Model Signing signature over the whole directory."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from converter.bundle.directory import locate
from converter.bundle.manifest import ATTESTATION, BOM, REPORT, SIGNATURE
from converter.bundle.proven import read_proven
from converter.core.errors import InputError, OutputError, UsageError
from converter.core.files import digest_of
from converter.core.jsonable import dumps
from converter.core.text import one_line
from converter.signing.attestation import statement
from converter.signing.bom import bill
from converter.signing.check import covered, library


@dataclass(frozen=True)
class Signed:
    """What was signed: the directory, the files that were added, and the digest of the exported files."""

    directory: str
    files: tuple[str, ...]
    digest: str


def sign(directory: str | os.PathLike[str], key: str | os.PathLike[str], *, password: str | None = None) -> Signed:
    """Sign every file of a proven artifact directory with the elliptic-curve private key in the PEM file `key`.

    `bom.json`, `verdict.intoto.json` and `model.sig` are added; those of an earlier signature are replaced. Raises
    InputError for a directory that is not an intact export and for a key that cannot be read, UsageError where the key
    needs a password, ParityError or InconclusiveError for an export whose verdict is not "pass", UnavailableError
    without the extra `sign`, and OutputError if the directory cannot be written.
    """
    place, only = locate(Path(directory))
    if only is not None:
        raise UsageError(f"{directory}: a directory is signed as a whole; give {place}")
    proven = read_proven(place, "signed")
    _check_key(Path(key), password)
    signing, secret = library("signing"), password.encode() if password else None  # it takes bytes, not text
    try:
        texts = {BOM: dumps(bill(proven)), ATTESTATION: dumps(statement(proven))}
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{place / REPORT}: damaged: {one_line(error)}\nexport the model again") from error
    try:
        for name, text in texts.items():
            _replace(place / name, text.encode())
        with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
            made = Path(scratch) / SIGNATURE
            config = signing.Config().use_elliptic_key_signer(private_key=Path(key), password=secret)
            config.set_hashing_config(covered()).sign(place, made)
            _replace(place / SIGNATURE, made.read_bytes())
    except OSError as error:
        raise OutputError(f"{place}: cannot be written: {error.strerror or error}") from error
    except ValueError as error:  # a symbolic link, or another thing that is no file
        raise InputError(f"{place}: cannot be signed: {one_line(error)}") from error
    return Signed(str(place), (*texts, SIGNATURE), digest_of(proven.manifest.files))


def _check_key(path: Path, password: str | None) -> None:
    """Raise InputError unless `path` holds an elliptic-curve private key, UsageError if the password is missing."""
    serialization, elliptic = library("serialization"), library("elliptic")
    secret = password.encode() if password else None
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), secret)
    except OSError as error:
        raise InputError(f"--key {path}: {error.strerror or error}") from error
    except TypeError as error:
        wrong = "has no password; leave --password out" if password else "is encrypted; add --password"
        raise UsageError(f"--key {path}: the key {wrong}") from error
    except Exception as error:  # cryptography has many classes for what is no key
        raise InputError(f"--key {path}: no private key in PEM, or a wrong password: {one_line(error)}") from error
    if not isinstance(key, elliptic.EllipticCurvePrivateKey):
        raise InputError(f"--key {path}: not an elliptic-curve key\nmake one: openssl ecparam -name prime256v1 -genkey")


def _replace(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
