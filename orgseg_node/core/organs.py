"""The organ table: names, codes and colours."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from orgseg_node.errors import ConfigError, OrganUnknown

Rgb = tuple[int, int, int]

_MAX_NAME = 16  # TG-263 (AAPM report 263, 2018): names of at most 16 characters, unique without case
_REQUIRED = {"name", "code", "meaning", "color", "display"}
    for name in _PAIRS_OF_NUMBERS:
