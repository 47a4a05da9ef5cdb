"""Numbers with decimal commas, which DICOM forbids (PS3.5, 6.2) and some systems write."""

from __future__ import annotations

import re
from collections.abc import Sequence

_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def with_decimal_points(words: Sequence[str], *, is_comma_proven: bool = False) -> tuple[str, ...]:
    """Numbers with points in place of decimal commas, which DICOM forbids and some locales write.

    Parameters
    ----------
    words : numbers as text
    is_comma_proven : whether it is known that their writer uses decimal commas; otherwise a comma before
        three last digits, as in ``1,024``, may separate thousands, unless another of the words proves it

    Returns
    -------
    the words; one that is ambiguous, and one that is no number, is left as it is
    """
    if not any("," in word for word in words):
        return tuple(words)
    is_comma_proven = is_comma_proven or proves_decimal_comma(words)
    return tuple(
        word.replace(",", ".")
        if _COMMA.fullmatch(word) and (is_comma_proven or not _THOUSANDS.fullmatch(word))
        else word
        for word in words
    )


def proves_decimal_comma(words: Sequence[str]) -> bool:
    """Whether commas are decimal: one of them cannot separate thousands, and no number has a point."""
    commas = [word for word in words if "," in word]
    is_decimal = any(_COMMA.fullmatch(word) and not _THOUSANDS.fullmatch(word) for word in commas)
    return is_decimal and not any("." in word for word in words)


def may_separate_thousands(words: Sequence[str]) -> bool:
    """Whether a comma of one of the words may separate thousands, as in ``1,024``."""
    return any(_THOUSANDS.fullmatch(word) for word in words)
