"""The patient's age, and values of attributes that may be damaged.

A value that cannot be read counts as no value, and nothing unknown is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any, Final, TypeVar

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from orgseg_node.dicom.reading.files import without_pydicom_warnings

T = TypeVar("T")
_PATIENT_AGE: Final = 0x00101010
_BIRTH_DATE: Final = 0x00100030
_STUDY_DATE: Final = 0x00080020
_YEARS: Final = {"D": 1 / 365.2425, "W": 7 / 365.2425, "M": 1 / 12, "Y": 1.0}
_DAYS_A_YEAR: Final = 365.2425
_OLDEST: Final = 130.0
_SAME_AGE: Final = 1.0
"""Patient's Age is rounded down; it may differ by so many years from the age that the dates give."""


def age_years(header: Dataset) -> float | None:
    """The patient's age at the time of the study in years; None where it is not known.

    It is Patient's Age (0010,1010), or the time from Patient's Birth Date to Study Date, which is more exact
    where both are given. It is not known if neither is there, if the two contradict each other, or if the
    dates give an impossible age.
    """
    stated = _first(header, _PATIENT_AGE, parse_age)
    born, scanned = (_first(header, tag, parse_date) for tag in (_BIRTH_DATE, _STUDY_DATE))
    if born is None or scanned is None:
        return stated
    counted = _years_between(born, scanned)
    if not 0 <= counted <= _OLDEST or (stated is not None and abs(stated - counted) > _SAME_AGE):
        return None
    return counted


def _first(header: Dataset, tag: int, parse: Callable[[Any], T | None]) -> T | None:
    """The first value of an attribute that can be parsed."""
    parsed = (parse(value) for value in raw_values(header, tag)[1])
    return next((value for value in parsed if value is not None), None)


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


def raw_values(header: Dataset, tag: int) -> tuple[bool, tuple[Any, ...]]:
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


def parse_age(value: Any) -> float | None:
    """Years of an AS (PS3.5, 6.2): three digits and D, W, M or Y; None if it is not one."""
    found = re.fullmatch(r"(\d{3})([DWMY])", str(value).strip(" \0"))
    return int(found[1]) * _YEARS[found[2]] if found else None


def parse_date(value: Any) -> date | None:
    """The day of a DA or DT (PS3.5, 6.2): YYYYMMDD, and in a DT the time of day after it."""
    found = re.match(r"(\d{4})(\d\d)(\d\d)", str(value).strip(" \0"))
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        return None
