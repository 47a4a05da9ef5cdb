"""What routing rules can test: one header of a series, its AE titles, and its number of slices.

Attributes are those of the first slice of the series. A value that cannot be read counts as no value, and
nothing unknown is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from orgseg_node.dicom.decimal_commas import with_decimal_points
from orgseg_node.dicom.patient_age import age_years, parse_age, parse_date, raw_values
from orgseg_node.dicom.reading.files import open_header
from orgseg_node.dicom.reading.series import Inventory
from orgseg_node.errors import OrgsegError
from orgseg_node.node.config.conditions import Kind, Subject, SubjectValues, Value


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


def _in_header(header: Dataset, tag: int, kind: Kind) -> SubjectValues:
    there, raw = raw_values(header, tag)
    typed = (_typed(value, kind) for value in raw)
    return SubjectValues(values=tuple(value for value in typed if value is not None), is_present=there)


def _typed(value: Any, kind: Kind) -> Value | None:
    """A value of a header as the type in which rules compare it; None if it is not of that type."""
    if isinstance(value, (bytes, Dataset)):
        return None
    text = str(value).strip(" \0")
    if kind is Kind.TEXT:
        return text
    if kind is Kind.AGE:
        return parse_age(text)
    return parse_date(text) if kind is Kind.DATE else _number(text)


def _number(text: str) -> float | None:
    try:
        number = float(*with_decimal_points([text]))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
