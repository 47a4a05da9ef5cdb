"""Datasets of storage commitment: the request and the report (PS3.4 Annex J, PS3.3 C.14).

The node asks an archive by N-ACTION whether it keeps a list of objects. The archive answers at once that it
will check, and reports later by N-EVENT-REPORT, mostly over an association that it opens itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from orgseg_node.dicom.reading.files import value_text
from orgseg_node.dicom.reading.part10 import valid_uid
from orgseg_node.errors import InvalidAttribute

PUSH_MODEL: Final = UID("1.2.840.10008.1.20.1")
INSTANCE: Final = UID("1.2.840.10008.1.20.1.1")
ACTION: Final = 1
PROCESSING_FAILURE: Final = 0x0110
"""Failure Reason (0008,1197) of an object for which the archive gives none (PS3.3 C.14.1.1)."""

LONGEST_LIST: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One object for which commitment is asked."""

    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an archive reports on the objects of one transaction.

    Attributes
    ----------
    transaction_uid : that of the request
    kept : objects that the archive keeps
    failed : the other objects, with the Failure Reason of each
    """

    transaction_uid: str
    kept: tuple[Item, ...]
    failed: Mapping[Item, int]


def request_dataset(transaction_uid: str, items: Iterable[Item]) -> Dataset:
    """The Action Information of a request (PS3.4 Table J.3-1)."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = Sequence(_reference(item) for item in items)
    return dataset


def read_report(dataset: Dataset) -> Report:
    """Read the Event Information of a report (PS3.4 Table J.3-2). Raises InvalidAttribute."""
    failed = {
        _item(one): int(one.get("FailureReason") or PROCESSING_FAILURE)
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
        value = value_text(dataset.get(keyword))
    except Exception as error:
        raise InvalidAttribute(f"{keyword} cannot be read.") from error
    if not valid_uid(value):
        raise InvalidAttribute(f"{keyword} is missing or not a UID.")
    return value
