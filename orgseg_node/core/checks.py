"""What a person should know about a result, as findings; the caller decides what follows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was noticed.

    Attributes
    ----------
    level : how much it matters; an error holds the job
    code : stable name, such as ``BODY_TOUCHES_FOV``
    message : a sentence a physicist understands, without patient data
    organ : key of the organ it is about, if any
    value : the number behind it, if any
    """

    level: Level
    code: str
    message: str
    organ: str | None = None
    value: float | None = None
