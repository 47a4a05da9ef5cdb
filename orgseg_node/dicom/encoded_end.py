"""Whether an encoded dataset, or its pixel data, end where the file ends, and not before."""

from __future__ import annotations

from typing import BinaryIO, Final

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

UNDEFINED_LENGTH: Final = 0xFFFFFFFF

_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


def raw_element(dataset: Dataset, tag: int) -> RawDataElement | None:
    """An element as it was read, not decoded; None if it is absent or decoded already."""
    try:
        element: object = dataset.get_item(tag)
    except Exception:  # noqa: BLE001  # pydicom decodes an element without length, and may raise any exception
        return None
    return element if isinstance(element, RawDataElement) else None


def ends_cleanly(dataset: Dataset, file: BinaryIO, size: int) -> bool:
    """Whether the last element of a dataset is complete.

    Parameters
    ----------
    dataset : as it was read from the file
    file : its position is changed
    size : of the file in bytes
    """
    last = raw_element(dataset, max(dataset.keys(), default=0))
    if last is not None and last.length != UNDEFINED_LENGTH:
        return last.value_tell + last.length == size
    file.seek(max(0, size - 8))
    return file.read(4) == _SEQUENCE_END


def items_complete(file: BinaryIO, size: int) -> bool:
    """Whether the items of compressed pixel data (PS3.5, A.4), from this position on, are all in the file."""
    while (item := file.read(8))[:4] == _ITEM and len(item) == 8:
        end = file.tell() + int.from_bytes(item[4:], "little")
        if end > size:
            return False
        file.seek(end)
    return len(item) == 8 and item[:4] == _SEQUENCE_END
