"""A header that a person types, to see what the rules decide about it."""

from __future__ import annotations

from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from orgseg_node.dicom.reading.files import without_pydicom_warnings
from orgseg_node.errors import OptionInvalid

_MOST_LINES: Final = 100
_WHOLE: Final = frozenset({"US", "SS", "UL", "SL", "US or SS"})
_REAL: Final = frozenset({"FL", "FD"})
_NO_TEXT: Final = frozenset({"SQ", "OB", "OW", "OF", "OD", "OL", "UN", "AT", "OB or OW"})


def typed_header(text: str) -> Dataset:
    """The header of lines such as ``Modality = CT``; several values stand between backslashes.

    Raises
    ------
    OptionInvalid
        If a line is not an attribute and its value.
    """
    header = Dataset()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > _MOST_LINES:
        raise OptionInvalid(f"There are more than {_MOST_LINES} lines.")
    for number, line in enumerate(lines, start=1):
        keyword, equals, value = (part.strip() for part in line.partition("="))
        tag = tag_for_keyword(keyword)
        if not equals or tag is None:
            raise OptionInvalid(f"Line {number} is not an attribute and its value, such as Modality = CT.")
        vr = dictionary_VR(tag)
        if vr in _NO_TEXT:
            raise OptionInvalid(f"Line {number}: {keyword} has no value that can be typed.")
        try:
            with without_pydicom_warnings():
                header.add_new(tag, "US" if vr == "US or SS" else vr, _value(value, vr))
        except (ValueError, TypeError, OverflowError):
            raise OptionInvalid(f"Line {number}: this is no value of {keyword}.") from None
    return header


def _value(text: str, vr: str) -> Any:
    convert = int if vr in _WHOLE else float if vr in _REAL else str
    values = [convert(part.strip()) for part in text.split("\\")] if text else []
    return values[0] if len(values) == 1 else values
