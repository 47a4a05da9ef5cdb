"""Base class and common types of the configuration sections."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _ae_title(value: str) -> str:
    # PS3.5 6.2, VR AE: at most 16 characters of the default repertoire, no backslash, no control
    # characters, leading and trailing spaces not significant, not only spaces
    if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", value) or value != value.strip():
        raise ValueError("an AE title has 1 to 16 ASCII characters, without backslash or outer spaces")
    return value


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """A table of the file: immutable, and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


def tables(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """The tables in a part of the file, with their names or numbers; other values are left out."""
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, (list, tuple)) else ())
    )
    return [(str(name), table) for name, table in pairs if isinstance(table, dict)]
