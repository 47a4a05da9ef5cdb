"""The reject list: scans and organs that a person excludes from training, signed by that person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orgseg_node import signing
from orgseg_node.errors import SigningKeyUnusable, StorageError
from orgseg_training.durable import read_json, write_json
from orgseg_training.errors import KeyUnusable, RejectsInvalid, RejectsUnsigned
from orgseg_training.settings_file import read_settings_file

_PURPOSE: Final = "orgseg-train rejects 1\n"  # so a signature of the list is valid for nothing else
_Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reject(_Strict):
    """A scan or an organ that is not trained on.

    Attributes
    ----------
    case : key of the scan, ``DATABASE__NAME``
    organ : the one organ whose contour is wrong; None for the whole scan
    reason : use the same words for the same reason, since the report counts by reason
    who, when : person and date of the decision
    """

    case: _Text
    organ: _Text | None = None
    reason: _Text
    who: _Text
    when: date


class _File(_Strict):
    reject: tuple[Reject, ...] = ()


class _Signature(_Strict):
    signer: _Text
    public_key: str
    signature: str


def read_rejects(path: Path) -> tuple[Reject, ...]:
    """Read the list without regard to its signature: tables ``[[reject]]`` of a TOML file.

    Raises
    ------
    RejectsInvalid
        If it cannot be read, with every problem, or names a scan and organ twice.
    """
    rejects = read_settings_file(path, _File, RejectsInvalid).reject
    named = [(one.case, one.organ) for one in rejects]
    twice = sorted(
        {f"{case} {organ or ''}".strip() for case, organ in named if named.count((case, organ)) > 1}
    )
    if twice:
        raise RejectsInvalid(f"{path.name} names twice: {', '.join(twice)}.")
    return rejects


def make_key(path: Path) -> str:
    """Write a new private key that only its owner can read, and return the public key in hexadecimal digits.

    Raises
    ------
    KeyUnusable
        If the file already exists or cannot be written.
    """
    try:
        return signing.make_key(path)
    except SigningKeyUnusable as error:
        raise KeyUnusable(error.detail) from error


def sign(path: Path, key_file: Path, signer: str) -> Path:
    """Sign a list; the signature is written next to it as ``NAME.sig``.

    Parameters
    ----------
    path : the list
    key_file : private key of `make_key`
    signer : name of the person, signed with the list

    Raises
    ------
    RejectsInvalid
        If the list cannot be read.
    KeyUnusable
        If the key cannot be read.
    """
    rejects = read_rejects(path)
    try:
        key = signing.read_key(key_file)
    except SigningKeyUnusable as error:
        raise KeyUnusable(error.detail) from error
    signature = key.sign(_message(rejects, signer)).hex()
    write_json(signature_file(path), {"signer": signer, "public_key": _public(key), "signature": signature})
    return signature_file(path)


def read_signed(path: Path, public_key: str) -> tuple[tuple[Reject, ...], str]:
    """Read a list that the owner of a key has signed, and the name of the signer.

    Parameters
    ----------
    path : the list; its signature is next to it
    public_key : of the person who must have signed, 64 hexadecimal digits; never taken from the signature
        file

    Raises
    ------
    RejectsInvalid
        If the list cannot be read.
    RejectsUnsigned
        If it is not signed, was changed after signing, or was signed by another person.
    """
    rejects = read_rejects(path)
    try:
        signature = _Signature.model_validate(read_json(signature_file(path)))
    except (StorageError, ValidationError) as error:
        raise RejectsUnsigned(f"{path.name} has no signature that can be read.") from error
    if signature.public_key != public_key:
        raise RejectsUnsigned(f"{path.name} is signed with another key than the experiment names.")
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature.signature), _message(rejects, signature.signer))
    except (ValueError, InvalidSignature) as error:
        raise RejectsUnsigned(f"{path.name} is not what {signature.signer} signed.") from error
    return rejects, signature.signer


def signature_file(path: Path) -> Path:
    """File of the signature of a list."""
    return path.with_name(f"{path.name}.sig")


def _message(rejects: Sequence[Reject], signer: str) -> bytes:
    """The signed bytes: the name, and the content in one form, so that comments and order do not matter."""
    entries = sorted(
        (one.model_dump(mode="json") for one in rejects), key=lambda one: (one["case"], one["organ"] or "")
    )
    content = json.dumps({"signer": signer, "rejects": entries}, sort_keys=True, ensure_ascii=False)
    return (_PURPOSE + content).encode()


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()
