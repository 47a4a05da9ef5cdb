"""Reproducible UIDs, derived from names."""

from __future__ import annotations

import json
import uuid

IMPLEMENTATION_UID = "2.25.228184637211064381955713283194720015"
"""Implementation Class UID (PS3.7 D.3.3.2) of all objects and associations of the node."""

_NAMESPACE = uuid.UUID("6f5d2c0e-5a8b-5d0e-9d8e-3c0f7f9b6a21")


def derive_uid(*parts: str) -> str:
    """A UID derived from text, so that a repeated run makes the same SOP instances.

    Parameters
    ----------
    parts : such as the job ID and the role of the object; their order and division matter

    Returns
    -------
    ``2.25.`` and a name-based UUID as one decimal number (PS3.5 B.2; RFC 9562, version 5), at most
    44 characters

    Raises
    ------
    ValueError
        If there is no part, or an empty one: such UIDs would collide.
    """
    if not parts or not all(parts):
        raise ValueError(f"A UID needs at least one part and no empty one; there are {len(parts)} parts.")
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(parts)).int}"
