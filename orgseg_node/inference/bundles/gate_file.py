"""The gate file: the signed result of comparing a candidate with the live model on the patients of a site.

``gate.json`` is JSON: which bundles were compared, by their hashes, the verdict with its reasons, and all
results. `orgseg-train site judge` writes it; the node promotes a bundle only by a gate file that passed, of
these very bundles, signed with the key of a person whom the node knows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from orgseg_node.errors import GateDamaged, GateForeign, GateUnsigned
from orgseg_node.inference.bundles.fields import is_sha256, is_text
from orgseg_node.inference.predictor import ModelIdentity
from orgseg_node.signing import Signature, is_signed, sign

FORMAT: Final = "orgseg-gate/1"
_PURPOSE: Final = "orgseg gate 1"
_MAX_BYTES: Final = 64 << 20


class GateVerdict(StrEnum):
    """What a gate says of a candidate; only PASS allows its promotion."""

    PASS = "PASS"  # noqa: S105 - no secret
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate file whose signature was checked.

    Attributes
    ----------
    live, candidate : SHA-256 of the bundles that were compared
    verdict : of the gate
    reasons : why it is not PASS, as sentences
    signer : name of the person who signed
    sha256 : of the file
    content : everything in it
    """

    live: str
    candidate: str
    verdict: GateVerdict
    reasons: tuple[str, ...]
    signer: str
    sha256: str
    content: Mapping[str, Any]


def model_entry(identity: ModelIdentity) -> dict[str, str]:
    """How a gate file names a bundle."""
    return {"name": identity.name, "version": identity.version, "sha256": identity.sha256}


def render_gate(content: Mapping[str, Any], key_file: Path | None) -> bytes:
    """The gate file.

    Parameters
    ----------
    content : ``live`` and ``candidate`` as `model_entry` gives them, ``verdict``, ``reasons``, and all else
    key_file : private key of the person who signs; None leaves it unsigned, so that it promotes nothing

    Raises
    ------
    SigningKeyUnusable
        If the key cannot be read.
    """
    body = {"format": FORMAT} | dict(content)
    document: dict[str, Any] = dict(body)
    if key_file is not None:
        document["signature"] = asdict(sign(_PURPOSE, body, key_file))
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


def read_gate(raw: bytes, persons: Mapping[str, str]) -> Gate:
    """Read a gate file and check its signature.

    Parameters
    ----------
    raw : the bytes of the file
    persons : public key of each person who may sign, in hexadecimal digits, by name

    Raises
    ------
    GateDamaged
        If it cannot be read, lacks something, or was changed after it was signed.
    GateUnsigned, GateForeign
        If nobody signed it, or nobody of the named persons.
    """
    document = _document(raw)
    found = document.pop("signature", None)
    if found is None:
        raise GateUnsigned
    try:
        signature = Signature(**found)
    except TypeError:
        raise GateDamaged("Its signature is incomplete.") from None
    names = [name for name, key in persons.items() if key == signature.public_key]
    if not is_signed(_PURPOSE, document, signature):
        raise GateDamaged("It is not what was signed.")
    if not names:
        raise GateForeign(f"Its public key begins with {str(signature.public_key)[:16]}.")
    problems = _problems(document)
    if problems:
        raise GateDamaged(f"{'; '.join(problems)}.")
    return Gate(
        live=document["live"]["sha256"],
        candidate=document["candidate"]["sha256"],
        verdict=GateVerdict(document["verdict"]),
        reasons=tuple(document["reasons"]),
        signer=names[0],
        sha256=hashlib.sha256(raw).hexdigest(),
        content=document,
    )


def protocol_of_gate(text: str) -> dict[str, str]:
    """Name and hash of the protocol with which a gate tidied organs; empty if it does not say them."""
    try:
        found = json.loads(text)["protocol"]
        return {"name": str(found["name"]), "sha256": str(found["sha256"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw) if len(raw) <= _MAX_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise GateDamaged("It is not a JSON object.")
    return document


def _problems(document: Mapping[str, Any]) -> list[str]:
    found = []
    if document.get("format") != FORMAT:
        found.append(f"Its format is not {FORMAT}")
    for role in ("live", "candidate"):
        entry = document.get(role)
        if not isinstance(entry, dict) or not is_sha256(entry.get("sha256")):
            found.append(f"It names no {role} bundle")
    if document.get("verdict") not in list(GateVerdict):
        found.append("It has no verdict")
    reasons = document.get("reasons")
    if not isinstance(reasons, list) or not all(is_text(reason) for reason in reasons):
        found.append("It has no reasons")
    return found
