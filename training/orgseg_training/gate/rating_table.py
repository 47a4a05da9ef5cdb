"""The filled CSV of a rating sheet, as spreadsheets of any language save it."""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orgseg_training.errors import RatingsInvalid

_NEEDED: Final = ("sheet", "code", "organ", "rating")
_DELIMITERS: Final = (",", ";", "\t")  # English, German, "Unicode text"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLine:
    """One line of the CSV.

    Attributes
    ----------
    number : of the row in a spreadsheet; the head is row 1
    sheet, code, organ, rating : its cells, without spaces around them
    """

    number: int
    sheet: str
    code: str
    organ: str
    rating: str

    @property
    def place(self) -> str:
        """How a person finds it."""
        return f"line {self.number} ({self.code} {self.organ})"


def read_table(file: Path) -> tuple[TableLine, ...]:
    """The lines of a filled CSV; empty ones are left out.

    Commas, semicolons or tabs, UTF-8 with or without BOM, UTF-16 or Windows-1252, any ends of lines. The
    delimiter is the one with which the head has the columns of a rating sheet.

    Parameters
    ----------
    file : the CSV

    Raises
    ------
    RatingsInvalid
        If it cannot be read or its head is not that of a rating sheet.
    """
    try:
        text = _decoded(file.read_bytes())
        for delimiter in _DELIMITERS:
            lines = _lines(text, delimiter)
            if lines is not None:
                return lines
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RatingsInvalid(f"{file.name} cannot be read as CSV: {error}.") from error
    raise RatingsInvalid(
        f"{file.name}, line 1: there are no columns {', '.join(_NEEDED)}, separated by commas, semicolons or"
        " tabs. Save the table of a printed sheet as CSV, with its first line."
    )


def _lines(text: str, delimiter: str) -> tuple[TableLine, ...] | None:
    """The lines, or None if the head has not the columns with this delimiter. Raises RatingsInvalid."""
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not all(name in head for name in _NEEDED):
        return None
    if twice := [name for name in _NEEDED if head.count(name) > 1]:
        raise RatingsInvalid(
            f"line 1: the column {', '.join(twice)} is there twice; each person fills an own sheet."
        )
    found = []
    for number, row in enumerate(rows[1:], start=2):
        cells = dict(zip(head, (cell.strip() for cell in row), strict=False))
        if any(cells.values()):
            found.append(TableLine(number=number, **{name: cells.get(name, "") for name in _NEEDED}))
    return tuple(found)


def _decoded(raw: bytes) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")  # only remarks have other letters than ASCII
