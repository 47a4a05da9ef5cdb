"""Signatures of persons: Ed25519 keys in files, and signed content."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from orgseg_node.errors import SigningKeyUnusable


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature of some content.

    Attributes
    ----------
    public_key : of the person who signed, 64 hexadecimal digits
    signature : 128 hexadecimal digits
    """

    public_key: str
    signature: str


def make_key(path: Path) -> str:
    """Write a new private key that only its owner can read, and return the public key in hexadecimal digits.

    Raises
    ------
    SigningKeyUnusable
        If the file already exists or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        # created exclusively and not through `durable`, which would replace an existing key
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(pem)
    except FileExistsError as error:
        raise SigningKeyUnusable(
            f"{path.name} is there already; a new key goes into a file of another name."
        ) from error
    except OSError as error:
        raise SigningKeyUnusable(f"{path.name}: {error.strerror}.") from error
    return _public(key)


def read_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file. Raises SigningKeyUnusable."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SigningKeyUnusable(f"{path.name} cannot be read.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyUnusable(f"{path.name} holds a key of another kind.")
    return key


def sign(purpose: str, content: Mapping[str, Any], key_file: Path) -> Signature:
    """Sign some content with the private key in a file.

    Parameters
    ----------
    purpose : one line that names the kind of content, so that the signature is valid for nothing else
    content : plain JSON values
    key_file : of `make_key`

    Raises
    ------
    SigningKeyUnusable
        If the key cannot be read.
    """
    key = read_key(key_file)
    return Signature(public_key=_public(key), signature=key.sign(_message(purpose, content)).hex())


def is_signed(purpose: str, content: Mapping[str, Any], signature: Signature) -> bool:
    """Whether the owner of the public key has signed the content. Whose key it is, the caller has to know.

    Parameters
    ----------
    purpose, content : as they were signed
    signature : with the public key
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.public_key))
        key.verify(bytes.fromhex(signature.signature), _message(purpose, content))
    except (ValueError, TypeError, InvalidSignature):  # whatever stands in a foreign file
        return False
    return True


def _message(purpose: str, content: Mapping[str, Any]) -> bytes:
    """The signed bytes: the purpose, and the content in one form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{purpose}\n{text}".encode()


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()
