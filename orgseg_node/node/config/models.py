"""Configuration section ``models``: who may promote versions of models, and their time in the shadow."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from orgseg_node.node.config.section import Section

_KEY: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[^\W_][\w .,'-]{0,63}")


def _public_key(value: str) -> str:
    key = value.strip().lower()
    if not _KEY.fullmatch(key):
        raise ValueError("a public key has 64 hexadecimal digits; 'orgseg models keygen' prints it")
    return key


class ModelsSection(Section):
    """Who may promote a version of a model, and how long it runs in the shadow.

    Attributes
    ----------
    persons : public key of each person who signs gate files and promotions, by name
    signatures : how many different persons sign a promotion
    shadow_cases : the report on a version in the shadow says "too few" for fewer scans
    """

    persons: dict[str, Annotated[str, AfterValidator(_public_key)]] = Field(default_factory=dict)
    signatures: Annotated[int, Field(ge=1, le=5)] = 2
    shadow_cases: Annotated[int, Field(ge=1, le=10_000)] = 20


def model_contradictions(section: dict[str, Any]) -> list[str]:
    """List contradictions in the section ``models``; also runs on a configuration with invalid fields."""
    persons = section.get("persons")
    if not isinstance(persons, dict):
        return []
    problems = [
        f"models.persons: {name!r} is no name of up to 64 letters, digits, spaces or . , ' -"
        for name in persons
        if not _NAME.fullmatch(str(name))
    ]
    keys = [str(key).strip().lower() for key in persons.values()]
    if len(set(keys)) < len(keys):
        problems.append("models.persons: two persons have the same public key")
    wanted = section.get("signatures", 2)
    if persons and isinstance(wanted, int) and len(persons) < wanted:
        problems.append(
            f"models.persons: {len(persons)} are fewer than the {wanted} signatures of a promotion;"
            " set models.signatures, or add persons"
        )
    return problems
