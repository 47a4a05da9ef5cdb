"""The words of the pages in English and German, from one table."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

LANGUAGES: Final = ("en", "de")


@dataclass(frozen=True, slots=True)
class Texts:
    """The words in one language.

    Attributes
    ----------
    language : ``en`` or ``de``
    table : words by key
    """

    language: str
    table: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The words of a key, with values in the place of ``{names}``. Raises KeyError for an unknown key."""
        text = self.table[key]
        return text.format(**values) if values else text

    def state(self, name: str) -> str:
        """The words for a state of a series, a job, a delivery or a model."""
        return self.table.get(f"state.{name}", name)


@cache
def text_table() -> Mapping[str, Mapping[str, str]]:
    """The whole table: for each key the words in each language."""
    file = resources.files("orgseg_node.web.pages").joinpath("texts.toml")
    found: dict[str, dict[str, str]] = {}
    for section, words in tomllib.loads(file.read_text(encoding="utf-8")).items():
        for key, value in words.items():
            found[f"{section}.{key}"] = dict(zip(LANGUAGES, value, strict=True))
    return found


@cache
def texts(language: str) -> Texts:
    """The words in a language."""
    return Texts(language, {key: value[language] for key, value in text_table().items()})


def choose_language(wanted: str, accepted: str, default: str) -> str:
    """The language of an answer.

    Parameters
    ----------
    wanted : chosen by the person; empty if none was
    accepted : header ``Accept-Language`` of the browser
    default : of the node
    """
    if wanted in LANGUAGES:
        return wanted
    for part in accepted.lower().split(","):
        name = part.partition(";")[0].strip().partition("-")[0]
        if name in LANGUAGES:
            return name
    return default
