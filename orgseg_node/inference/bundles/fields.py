"""Checks of what stands in a table of a TOML file; each gives its problems as sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

_SHA256 = re.compile(r"[0-9a-f]{64}")


def key_problems(
    prefix: str, row: Mapping[str, Any], wanted: Collection[str], optional: Collection[str] = ()
) -> list[str]:
    """Which keys of a table are missing, and which are not known.

    Parameters
    ----------
    prefix : of the table, such as ``preprocessing.``; empty for the file itself
    row : the table
    wanted, optional : keys that must be there, and keys that may be
    """
    found = [f"{prefix}{name} is missing" for name in sorted(set(wanted) - row.keys())]
    return found + [
        f"{prefix}{name} is not known" for name in sorted(row.keys() - set(wanted) - set(optional))
    ]


def is_text(value: Any) -> bool:
    """Whether it is text, and not empty."""
    return isinstance(value, str) and bool(value.strip())


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def is_sha256(value: Any) -> bool:
    """Whether it is a SHA-256 in lower-case hexadecimal."""
    return isinstance(value, str) and bool(_SHA256.fullmatch(value))
