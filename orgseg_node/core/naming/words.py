"""The words of a structure's name: what it names, on which side, and whether it is more than an organ."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orgseg_node.core.organs import Side

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_VARIANT: Final = re.compile(r"[\d~^+*#%<>=@!?/&\\]|^_")  # a margin, a part, a copy, a help, two names
_LETTERS: Final = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "œ": "oe", "ø": "oe", "ł": "l"}
_DUTCH: Final = re.compile(r"(linker|rechter)(?=[a-z]{3})", re.IGNORECASE)  # linkernier, rechterlong

_LEFT: Final = (
    "l", "lt", "left", "li", "lks", "links", "linke", "linker", "linkes", "gauche", "gche",
    "sin", "sinister", "sinistra", "sinistro", "sx", "lewa", "lewy", "lewe",
    "izq", "izda", "izqda", "izquierda", "izquierdo", "esq", "esquerda", "esquerdo",
)  # fmt: skip
_RIGHT: Final = (
    "r", "rt", "right", "re", "rechts", "rechte", "rechter", "rechtes", "droite", "droit", "dte", "drt",
    "dex", "dext", "dexter", "dextra", "destra", "destro", "dx", "prawa", "prawy", "prawe",
    "dcha", "dcho", "der", "derecha", "derecho", "dir", "direita", "direito",
)  # fmt: skip
SIDE_WORDS: Final[Mapping[str, Side]] = dict.fromkeys(_LEFT, Side.LEFT) | dict.fromkeys(_RIGHT, Side.RIGHT)
"""Words for left and right that mean the same in every language."""

SIDE_LETTERS: Final[Mapping[str, Mapping[str, Side]]] = {
    "fr": {"g": Side.LEFT, "d": Side.RIGHT},
    "es": {"i": Side.LEFT, "d": Side.RIGHT},
    "it": {"s": Side.LEFT, "d": Side.RIGHT},
    "pt": {"e": Side.LEFT, "d": Side.RIGHT},
    "pl": {"p": Side.RIGHT},
}
"""Letters for left and right that only count beside an organ's name in their language."""

_BOTH: Final = frozenset((
    "both", "bilat", "bilateral", "bds", "beide", "beidseits", "beiden", "gesamt", "ges", "total", "totale",
    "tot", "entrambi", "entrambe", "ambos", "ambas", "obie", "oba", "pair",
))  # fmt: skip
_WITHOUT_MEANING: Final = frozenset((
    "gland", "glnd", "gl", "glandula", "glande", "ghiandola", "druese", "klier", "gruczol",
    "oar", "organ", "the", "of", "de", "del", "della", "du", "des", "la", "le", "el", "do", "da",
))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NameWords:
    """The words of a name.

    Attributes
    ----------
    words : in lower case, without accents, without sides and words without meaning
    sides : the sides it names
    both : whether it says that both sides are meant
    is_variant : whether it has digits or signs with which people mark margins, parts and copies
    """

    words: tuple[str, ...]
    sides: frozenset[Side]
    both: bool
    is_variant: bool

    @property
    def side(self) -> Side | None:
        """The one side it names, if it names exactly one."""
        return next(iter(self.sides)) if len(self.sides) == 1 else None


def split_name(name: str) -> NameWords:
    """The words of a name: ``RightParotid``, ``PAROTIS RE`` and ``parotid_r`` have one word and a side."""
    words = [word.casefold() for word in _WORDS.findall(_DUTCH.sub(r"\1 ", plain(name)))]
    named = tuple(word for word in words if word not in SIDE_WORDS and word not in _BOTH)
    meant = tuple(word for word in named if word not in _WITHOUT_MEANING)
    return NameWords(
        words=meant or named,
        sides=frozenset(SIDE_WORDS[word] for word in words if word in SIDE_WORDS),
        both=not _BOTH.isdisjoint(words),
        is_variant=bool(_VARIANT.search(name.strip())),
    )


def plain(name: str) -> str:
    """A name in ASCII letters: umlauts are written out, accents left out, the case stays."""
    name = unicodedata.normalize("NFC", name)
    letters = []
    for place, letter in enumerate(name):
        written = _LETTERS.get(letter.lower())
        if written is None:
            letters.append(letter)
        elif letter.islower():
            letters.append(written)
        else:  # an umlaut in a word of capitals
            nearby = name[place + 1 : place + 2] or name[place - 1 : place]
            letters.append(written.upper() if nearby.isupper() else written.capitalize())
    return without_accents("".join(letters))


def without_accents(name: str) -> str:
    """A name whose letters have no accents and no dots, as some systems export it."""
    decomposed = unicodedata.normalize("NFKD", name)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def folded(name: str) -> str:
    """A name without case, accents, blanks and punctuation, but with backslashes: these part two values."""
    return re.sub(r"[^\w\\]+|_+", "", plain(name).casefold())
