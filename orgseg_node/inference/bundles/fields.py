"""Checks of the fields of a TOML table; problems are returned as sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

_SHA256 = re.compile(r"[0-9a-f]{64}")


def key_problems(
    prefix: str, row: Mapping[str, Any], wanted: Collection[str], optional: Collection[str] = ()
) -> list[str]:
    """The keys of a table that are missing, and those that are not known.

    Parameters
    ----------
    prefix : name of the table, such as ``preprocessing.``; empty for the file itself
    row : the table
    wanted, optional : keys that must exist, and keys that may exist
    """
    found = [f"{prefix}{name} is missing" for name in sorted(set(wanted) - row.keys())]
    return found + [
        f"{prefix}{name} is not known" for name in sorted(row.keys() - set(wanted) - set(optional))
    ]


def is_text(value: Any) -> bool:
    """Whether it is a text that is not empty."""
    return isinstance(value, str) and bool(value.strip())


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def is_sha256(value: Any) -> bool:
    """Whether it is a SHA-256 in lower-case hexadecimal."""
    return isinstance(value, str) and bool(_SHA256.fullmatch(value))
