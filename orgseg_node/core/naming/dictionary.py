"""The dictionary of organ names: an organ is found by its name for certain, or not at all.

Left and right are never exchanged and never left out: a name without side means no organ that has two.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from orgseg_node.core.naming.words import SIDE_LETTERS, NameWords, folded, split_name, without_accents
from orgseg_node.core.organs import PAIRS, OrganTable, Side
from orgseg_node.errors import ConfigError
from orgseg_node.shipped import shipped_config

Synonyms = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Names by organ (key, key without side, or key of a pair) and by language."""

OrganRow = tuple[str, str, Side | None]
"""Key, TG-263 name and side of an organ."""

_AMBIGUOUS: Final = frozenset({"hip", "hips"})  # to some the pelvic bone, to others the femoral head
_KEY_LANGUAGE: Final = "en"
_PAIR_OF: Final[Mapping[str, str]] = {left.removesuffix("_left"): both for both, (left, _) in PAIRS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    """What the words of a name mean: an organ, or one of two sides."""

    alone: str | None
    sides: Mapping[Side, str]

    def organ(self, side: Side | None) -> str | None:
        """The key of the organ on a side, or of the one organ without side."""
        return self.alone if side is None else self.sides.get(side)


class NameDictionary:
    """Organs by name.

    Parameters
    ----------
    organs : the organs of a table; their keys and TG-263 names are names
    synonyms : further names
    """

    def __init__(self, organs: Sequence[OrganRow], synonyms: Synonyms) -> None:
        self._exact: dict[str, str] = {}
        for key, name, _ in organs:
            own = () if _family(key) in _AMBIGUOUS else (key,)
            for spelled in (name.casefold(), *own):
                self._exact.setdefault(spelled, key)
                self._exact.setdefault(spelled.replace("_", " "), key)
        self._families = _families(organs)
        self._spelled: defaultdict[str, dict[str, set[str]]] = defaultdict(dict)
        for key, name, side in organs:
            family = key if side is None else _family(key)
            for spelled in (family, name if side is None else name[:-2]):
                self._add(spelled, family, _KEY_LANGUAGE)
        for family, languages in synonyms.items():
            if family in self._families:
                for language, names in languages.items():
                    for name in names:
                        self._add(name, family, language)
                        if split_name(name).sides and (alone := self._families[family].organ(None)):
                            self._exact.setdefault(name.casefold(), alone)  # the word is no side of the organ

    def organ(self, name: str) -> str | None:
        """The key of the organ that a name means for certain; None if it means none, or that is not certain.

        Parameters
        ----------
        name : such as ``Lung_L``, ``PAROTIS LI`` or ``rein gauche``
        """
        known = self._exact.get(" ".join(name.split()).casefold())
        if known is not None:
            return known
        parsed = split_name(name)
        return None if parsed.is_variant or not parsed.words else self.organ_of_words(parsed)

    def organ_of_words(self, parsed: NameWords) -> str | None:
        """The key of the organ that words mean for certain, whatever signs and digits the name has."""
        found = {key for key in self._meant(parsed) if key is not None}
        return found.pop() if len(found) == 1 else None

    def families(self, words: tuple[str, ...]) -> Mapping[str, set[str]]:
        """The organs, without side, that words may mean, each with the languages in which they do."""
        joined = "".join(words)
        if joined in _AMBIGUOUS:
            return {}
        return self._spelled.get(joined) or self._spelled.get("".join(sorted(words))) or {}

    def member(self, family: str, side: Side | None) -> str | None:
        """The key of an organ without side, on a side; of a pair if no side is given."""
        return self._families[family].organ(side)

    def families_by_spelling(self) -> Mapping[str, Mapping[str, set[str]]]:
        """Every spelling without blanks, with the organs that it may mean."""
        return self._spelled

    def _meant(self, parsed: NameWords) -> Iterator[str | None]:
        if len(parsed.sides) > 1:
            return
        for family in self.families(parsed.words):
            if not parsed.both:
                yield self._families[family].organ(parsed.side)
            elif not parsed.sides and (pair := _PAIR_OF.get(family, family)) in PAIRS:
                yield self._families[pair].organ(None)
        if not parsed.sides and len(parsed.words) > 1:
            *words, letter = parsed.words
            for family, languages in self.families(tuple(words)).items():
                sides = {SIDE_LETTERS.get(language, {}).get(letter) for language in languages} - {None}
                if len(sides) == 1:
                    yield self._families[family].organ(sides.pop())

    def _add(self, name: str, family: str, language: str) -> None:
        for written in {name, without_accents(name)}:
            words = split_name(written).words or (folded(written),)
            for spelled in {"".join(words), "".join(sorted(words)), folded(written)}:
                self._spelled[spelled].setdefault(family, set()).add(language)


def load_synonyms(path: Path) -> Synonyms:
    """Read names by organ and language from TOML.

    Raises
    ------
    ConfigError
        If the file cannot be read, or has another form.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return {
            family: {language: tuple(map(str.strip, names)) for language, names in languages.items()}
            for family, languages in document.items()
        }
    except (OSError, tomllib.TOMLDecodeError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path.name}: {error}") from error


@cache
def _shipped_synonyms() -> Synonyms:
    return load_synonyms(shipped_config("organ_names.toml"))


@cache
def _dictionary_of(organs: tuple[OrganRow, ...]) -> NameDictionary:
    return NameDictionary(organs, _shipped_synonyms())


def name_dictionary(table: OrganTable) -> NameDictionary:
    """The dictionary of an organ table with the names that come with the node."""
    return _dictionary_of(tuple((key, organ.name, organ.side) for key, organ in table.items()))


def _family(key: str) -> str:
    """The key without side."""
    return key.removesuffix("_left").removesuffix("_right")


def _families(organs: Sequence[OrganRow]) -> dict[str, _Meaning]:
    sides: defaultdict[str, dict[Side, str]] = defaultdict(dict)
    for key, _, side in organs:
        if side is not None:
            sides[_family(key)][side] = key
    # rectus_abdominis is both sides together and, without them, the name of either
    alone = {key: _Meaning(alone=key, sides=sides.pop(key, {})) for key, _, side in organs if side is None}
    return alone | {family: _Meaning(alone=None, sides=members) for family, members in sides.items()}
