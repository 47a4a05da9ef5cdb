"""Storage commitment: what is asked and what is reported (PS3.4 Annex J, PS3.3 C.14).

One side asks by N-ACTION whether the other will keep a list of objects; the other answers at once that it
will look, and reports later by N-EVENT-REPORT, mostly by a call of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from orgseg_node.dicom.reading.part10 import valid_uid
from orgseg_node.errors import InvalidAttribute

PUSH_MODEL: Final = UID("1.2.840.10008.1.20.1")
INSTANCE: Final = UID("1.2.840.10008.1.20.1.1")
ACTION: Final = 1
ALL_KEPT, SOME_FAILED = 1, 2
"""Event Type IDs (PS3.4 Table J.3-2)."""

LONGEST_LIST: Final = 20_000


class Reason(IntEnum):
    """Why an object is not kept: Failure Reason (0008,1197) of PS3.3 C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One object that is asked about."""

    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is said of the objects of one transaction.

    Attributes
    ----------
    kept : those that are
    failed : the others, with the Failure Reason
    """

    transaction_uid: str
    kept: tuple[Item, ...]
    failed: Mapping[Item, int]

    @property
    def event_type(self) -> int:
        """Event Type ID that goes with it."""
        return SOME_FAILED if self.failed else ALL_KEPT


def request_dataset(transaction_uid: str, items: Iterable[Item]) -> Dataset:
    """The Action Information of a request (PS3.4 Table J.3-1)."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = Sequence(_reference(item) for item in items)
    return dataset


def report_dataset(report: Report) -> Dataset:
    """The Event Information of a report (PS3.4 Table J.3-2)."""
    dataset = Dataset()
    dataset.TransactionUID = report.transaction_uid
    if report.kept:
        dataset.ReferencedSOPSequence = Sequence(_reference(item) for item in report.kept)
    if report.failed:
        dataset.FailedSOPSequence = Sequence(_failure(*pair) for pair in report.failed.items())
    return dataset


def read_request(dataset: Dataset) -> tuple[str, tuple[Item, ...]]:
    """Transaction UID and objects of a request. Raises InvalidAttribute."""
    items = tuple(_item(one) for one in _items(dataset, "ReferencedSOPSequence"))
    if not items:
        raise InvalidAttribute("The request names no object.")
    return _transaction(dataset), items


def read_report(dataset: Dataset) -> Report:
    """What a report says. Raises InvalidAttribute."""
    failed = {
        _item(one): int(one.get("FailureReason") or Reason.PROCESSING_FAILURE)
        for one in _items(dataset, "FailedSOPSequence")
    }
    kept = tuple(_item(one) for one in _items(dataset, "ReferencedSOPSequence"))
    kept = tuple(item for item in kept if item not in failed)
    return Report(transaction_uid=_transaction(dataset), kept=kept, failed=failed)


def _reference(item: Item) -> Dataset:
    dataset = Dataset()
    dataset.ReferencedSOPClassUID = item.sop_class_uid
    dataset.ReferencedSOPInstanceUID = item.sop_uid
    return dataset


def _failure(item: Item, reason: int) -> Dataset:
    dataset = _reference(item)
    dataset.FailureReason = reason
    return dataset


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    try:
        items = list(dataset.get(keyword) or ())
    except Exception as error:
        raise InvalidAttribute(f"{keyword} cannot be read.") from error
    if len(items) > LONGEST_LIST:
        raise InvalidAttribute(f"{keyword} has more than {LONGEST_LIST} items.")
    return items


def _item(dataset: Dataset) -> Item:
    values = [_uid(dataset, word) for word in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")]
    return Item(sop_class_uid=values[0], sop_uid=values[1])


def _transaction(dataset: Dataset) -> str:
    return _uid(dataset, "TransactionUID")


def _uid(dataset: Dataset, keyword: str) -> str:
    try:
        value = str(dataset.get(keyword) or "")
    except Exception as error:
        raise InvalidAttribute(f"{keyword} cannot be read.") from error
    if not valid_uid(value):
        raise InvalidAttribute(f"{keyword} is missing or not a UID.")
    return value
