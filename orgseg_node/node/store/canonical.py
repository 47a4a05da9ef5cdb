"""Content as text and as a hash that are the same for the same content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical(content: Any) -> str:
    """Content as JSON that is the same for the same content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def short_hash(content: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of content."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:16]
