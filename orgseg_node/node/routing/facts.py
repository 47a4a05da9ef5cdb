"""What routing rules can test: one header of a series, its AE titles, and its number of slices.

Attributes are those of the first slice of the series. A value that cannot be read counts as no value, and
nothing unknown is guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from orgseg_node.dicom.decimal_commas import with_decimal_points
from orgseg_node.dicom.reading.files import open_header, without_pydicom_warnings
from orgseg_node.dicom.reading.series import Inventory
from orgseg_node.errors import OrgsegError
from orgseg_node.node.config.conditions import Kind, Subject, SubjectValues, Value

_PATIENT_AGE: Final = 0x00101010
_BIRTH_DATE: Final = 0x00100030
_STUDY_DATE: Final = 0x00080020
_YEARS: Final = {"D": 1 / 365.2425, "W": 7 / 365.2425, "M": 1 / 12, "Y": 1.0}
_DAYS_A_YEAR: Final = 365.2425
_OLDEST: Final = 130.0
_SAME_AGE: Final = 1.0
"""Patient's Age is rounded down; it may differ by so many years from the age that the dates give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """What is known about a series when it is routed.

    Attributes
    ----------
    header : of its first slice, without pixel data
    slices : number of its images
    called_ae, calling_ae : AE titles of the association; empty where not known
    """

    header: Dataset
    slices: int
    called_ae: str = ""
    calling_ae: str = ""

    def value_of(self, subject: Subject) -> SubjectValues:
        """The values of a subject."""
        if subject.tag is not None:
            return _in_header(self.header, subject.tag, subject.kind)
        if subject.name == "slices":
            return SubjectValues(values=(float(self.slices),), is_present=True)
        if subject.name == "age":
            age = age_years(self.header)
            return SubjectValues() if age is None else SubjectValues(values=(age,), is_present=True)
        title = self.called_ae if subject.name == "called_ae" else self.calling_ae
        return SubjectValues(values=(title,), is_present=True) if title else SubjectValues(is_known=False)


def facts_of(
    inventory: Inventory,
    paths: Sequence[Path],
    *,
    header: Dataset | None = None,
    called_ae: str = "",
    calling_ae: str = "",
) -> SeriesFacts:
    """What is known about one series, also if it cannot be contoured: a rule may ignore it.

    Parameters
    ----------
    inventory : of its files
    paths : its files
    header : of its first image if that was read already
    called_ae, calling_ae : AE titles of the association; empty where not known
    """
    slices = sum(len(one.slices) for one in inventory.accepted) or len(paths)
    if header is None:
        header = inventory.accepted[0].header if inventory.accepted else first_header(paths)
    return SeriesFacts(header=header, slices=slices, called_ae=called_ae, calling_ae=calling_ae)


def first_header(paths: Iterable[Path]) -> Dataset:
    """The header of the first file that can be read; an empty one if none can."""
    for path in paths:
        try:
            return open_header(path)[0]
        except OrgsegError:
            continue
    return Dataset()


def age_years(header: Dataset) -> float | None:
    """The patient's age at the time of the study in years; None where it is not known.

    It is Patient's Age (0010,1010), or the time from Patient's Birth Date to Study Date, which is more exact
    where both are given. It is not known if neither is there, if the two contradict each other, or if the
    dates give an impossible age.
    """
    stated = next(iter(_numbers(header, _PATIENT_AGE, Kind.AGE)), None)
    born, scanned = (next(iter(_dates(header, tag)), None) for tag in (_BIRTH_DATE, _STUDY_DATE))
    if born is None or scanned is None:
        return stated
    counted = _years_between(born, scanned)
    if not 0 <= counted <= _OLDEST or (stated is not None and abs(stated - counted) > _SAME_AGE):
        return None
    return counted


def _years_between(born: date, day: date) -> float:
    """Birthdays passed, and the part of a year since the last one; negative before the birth."""
    if day < born:
        return -1.0
    whole = day.year - born.year
    if _birthday(born, day.year) > day:
        whole -= 1
    return whole + min((day - _birthday(born, born.year + whole)).days / _DAYS_A_YEAR, 0.999)


def _birthday(born: date, year: int) -> date:
    try:
        return born.replace(year=year)
    except ValueError:  # 29 February; in other years the birthday is 1 March
        return date(year, 3, 1)


def _in_header(header: Dataset, tag: int, kind: Kind) -> SubjectValues:
    there, raw = _raw_values(header, tag)
    typed = (_typed(value, kind) for value in raw)
    return SubjectValues(values=tuple(value for value in typed if value is not None), is_present=there)


def _numbers(header: Dataset, tag: int, kind: Kind) -> list[float]:
    return [value for value in _in_header(header, tag, kind).values if isinstance(value, float)]


def _dates(header: Dataset, tag: int) -> list[date]:
    return [value for value in _in_header(header, tag, Kind.DATE).values if isinstance(value, date)]


def _raw_values(header: Dataset, tag: int) -> tuple[bool, tuple[Any, ...]]:
    """Whether an attribute has a value, and its values as far as they can be decoded."""
    if tag not in header:
        return False, ()
    try:
        with without_pydicom_warnings():
            value = header[tag].value
    except Exception:  # noqa: BLE001  # pydicom raises many things for a value that cannot be decoded
        return True, ()
    parts = list(value) if isinstance(value, (list, tuple, MultiValue)) else [value]
    kept = tuple(part for part in parts if part is not None and str(part).strip(" \0"))
    return bool(kept), kept


def _typed(value: Any, kind: Kind) -> Value | None:
    """A value of a header as the type in which rules compare it; None if it is not of that type."""
    if isinstance(value, (bytes, Dataset)):
        return None
    text = str(value).strip(" \0")
    if kind is Kind.TEXT:
        return text
    if kind is Kind.AGE:
        # PS3.5 6.2: three digits and D, W, M or Y
        found = re.fullmatch(r"(\d{3})([DWMY])", text)
        return int(found[1]) * _YEARS[found[2]] if found else None
    return _date(text) if kind is Kind.DATE else _number(text)


def _date(text: str) -> date | None:
    """The day of a DA or DT (PS3.5, 6.2): YYYYMMDD, and in a DT the time of day after it."""
    found = re.match(r"(\d{4})(\d\d)(\d\d)", text)
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        return None


def _number(text: str) -> float | None:
    try:
        number = float(*with_decimal_points([text]))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
