"""One DICOM file: whether it is complete, and the values of its header.

Everything read here comes from outside and may be damaged, so each function returns a value or raises an
error with a code. No message contains a value of the header or the name of the file: both may name the
patient.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.datadict import dictionary_description, dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from orgseg_node.dicom.decimal_commas import (
    may_separate_thousands,
    proves_decimal_comma,
    with_decimal_points,
)
from orgseg_node.dicom.encoded_end import UNDEFINED_LENGTH, ends_cleanly, items_complete, raw_element
from orgseg_node.dicom.reading.limits import limit_values, open_bounded
from orgseg_node.errors import (
    InvalidAttribute,
    MissingAttribute,
    NotDicom,
    TooManyItems,
    TruncatedFile,
    Unreadable,
    UnsupportedSyntax,
)

PIXEL_DATA = 0x7FE00010
_THICKEST_MM = 1000.0
_UID_LENGTH, _UID = 64, re.compile(r"[0-9]+(\.[0-9]+)*")
_NEVER_PROVEN = {"RescaleIntercept"}  # -1,024 is -1024 to most, and a wrong one moves every HU
_LONG_VR = {b"OB", b"OW", b"UN", b"OF", b"OD"}


_suppressed = threading.local()
"""Whether warnings are suppressed in this thread."""

PYDICOM_LOGGERS = (
    "pydicom",
    "pydicom.pixels.decoders.base",
    "pydicom.pixels.encoders.base",
    "pydicom.pixels.utils",
)
"""All loggers of pydicom; a filter of a logger is not asked for the lines of those below it."""


def _is_shown(line: logging.LogRecord) -> bool:
    del line
    return not getattr(_suppressed, "here", False)


# a filter, as a changed level makes each logger of the process look for its level again
for _name in PYDICOM_LOGGERS:
    logging.getLogger(_name).addFilter(_is_shown)


@contextmanager
def without_pydicom_warnings() -> Iterator[None]:
    """Suppress warnings and log lines of pydicom, which quote values of the header.

    Around many values it costs little more than around one.
    """
    if getattr(_suppressed, "here", False):
        yield
        return
    _suppressed.here = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _suppressed.here = False


def open_header(path: Path) -> tuple[FileDataset, bool]:
    """The header of a DICOM file, and whether pixel data follow it.

    The length of the pixel data is checked against the file without reading them.

    Raises
    ------
    NotDicom
        If the file has neither a DICOM prefix (PS3.10, 7.1) nor the beginning of a dataset.
    Unreadable
        If the system cannot read it.
    TruncatedFile
        If the file is empty, or ends inside its header or its pixel data.
    TooLarge
        If its deflated data would inflate to an implausible size.
    TooManyItems
        If its header has more elements and items than any scanner writes.
    UnsupportedSyntax
        If its pixel data are compressed and its transfer syntax is not, or the other way round.
    """
    try:
        with open_bounded(path) as file, without_pydicom_warnings():
            dataset, has_pixels = _parse(file, file.size)
            limit_values(dataset)
            return dataset, has_pixels
    except OSError as error:
        is_folder = os.path.isdir(path)  # noqa: PTH112  # without rights, `Path.is_dir` raises
        of_folder = "It is a folder whose files cannot be listed."
        raise Unreadable(of_folder if is_folder else f"It cannot be read: {error.strerror}.") from None


def _parse(file: BinaryIO, size: int) -> tuple[FileDataset, bool]:
    try:
        dataset = dcmread(file, stop_before_pixels=True)
    except InvalidDicomError:
        raise NotDicom from None
    except (TooManyItems, MemoryError):
        raise
    except Exception as error:  # damaged bytes make the parser raise any exception
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the bytes
            raise
        raise TruncatedFile("Its header cannot be read to the end.") from None
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return _parse_deflated(file)
    start = file.tell()
    if start >= size - 7:
        if not ends_cleanly(dataset, file, size):
            raise TruncatedFile("Its header ends before its last value.")
        return dataset, False
    if not _pixels_complete(dataset, file, size):
        raise TruncatedFile("Its pixel data are incomplete.")
    return dataset, True


def _parse_deflated(file: BinaryIO) -> tuple[FileDataset, bool]:
    # the whole dataset is one zlib stream (PS3.5, A.5): damage shows when it is inflated
    file.seek(0)
    dataset = dcmread(file)
    element = raw_element(dataset, PIXEL_DATA)
    if element is None:
        return dataset, False
    if element.length != UNDEFINED_LENGTH and len(element.value or b"") < element.length:
        raise TruncatedFile("Its pixel data are incomplete.")
    del dataset[PIXEL_DATA]
    return dataset, True


def _pixels_complete(dataset: FileDataset, file: BinaryIO, size: int) -> bool:
    """Whether the file contains the whole pixel data element that starts here (PS3.5, 7.1 and A.4).

    Raises
    ------
    UnsupportedSyntax
        If they are compressed and the transfer syntax is not, or the other way round.
    """
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    head = file.read(12)
    if syntax == ImplicitVRLittleEndian or head[4:6] not in _LONG_VR:
        length = int.from_bytes(head[4:8], "little")
        file.seek(8 - len(head), 1)
    else:
        length = int.from_bytes(head[8:12], "big" if syntax == ExplicitVRBigEndian else "little")
    if text(dataset, "Modality").upper() in {"CT", ""}:  # the pixels of other objects are not read
        _require_encoding(dataset, is_compressed=length == UNDEFINED_LENGTH)
    if length != UNDEFINED_LENGTH:
        return file.tell() + length <= size
    return items_complete(file, size)


def _require_encoding(dataset: FileDataset, *, is_compressed: bool) -> None:
    """Raise UnsupportedSyntax if the transfer syntax does not say how the pixel data are compressed.

    Compressed bytes would be read as pixels. Only compressed pixel data have no defined length (PS3.5 A.4).
    """
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID") or "")
    if not syntax.is_transfer_syntax or syntax.is_private or syntax.is_encapsulated == is_compressed:
        return
    if not is_compressed:
        raise UnsupportedSyntax(f"It is {uid_name(syntax)}, but the pixel data are not compressed.")
    if "MediaStorageSOPClassUID" in dataset.file_meta:
        raise UnsupportedSyntax(f"It is {uid_name(syntax)}, but the pixel data are compressed.")
    raise UnsupportedSyntax(
        "The pixel data are compressed, and there is no file meta information that says how."
    )


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a text or UID attribute without surrounding blanks; empty if it is absent or empty."""
    try:
        with without_pydicom_warnings():
            value = dataset.get(keyword)
    except Exception:  # noqa: BLE001  # a value that cannot be decoded is no value
        return ()
    parts = value if isinstance(value, (list, MultiValue)) else [value]
    return tuple(part for part in (str(v).strip(" \0") for v in parts if v is not None) if part)


def text(dataset: Dataset, keyword: str) -> str:
    """The first value of a text or UID attribute; an empty string if it is absent or empty."""
    return next(iter(texts(dataset, keyword)), "")


def whole_text(dataset: Dataset, keyword: str) -> str:
    """The value of an attribute as `value_text`; empty if it is absent, empty or cannot be decoded."""
    try:
        with without_pydicom_warnings():
            return value_text(dataset.get(keyword))
    except Exception:  # noqa: BLE001  # a value that cannot be decoded is no value
        return ""


def value_text(value: object) -> str:
    """A decoded value as it is written in the file, with the backslashes between several values.

    A backslash in a name or an ID is part of it to the person who entered it, although it separates values in
    DICOM (PS3.5, 6.2). Whatever must be unique or is shown to people is converted into text by this function.

    Returns
    -------
    the text without surrounding blanks; empty for None
    """
    parts = value if isinstance(value, (list, tuple, MultiValue)) else [value]
    return "\\".join("" if part is None else str(part).strip(" \0") for part in parts)


def uid_name(uid: str) -> str:
    """The name of a UID in DICOM (PS3.6, A); an empty string if DICOM does not define it."""
    with without_pydicom_warnings():
        name = UID(uid).name
    return "" if name == uid else name


def required_text(dataset: Dataset, keyword: str) -> str:
    """The value of a text or UID attribute that is required, as `whole_text` gives it.

    Raises
    ------
    MissingAttribute
        If the attribute is absent or empty.
    """
    value = whole_text(dataset, keyword)
    if not value:
        raise MissingAttribute(f"{dictionary_description(keyword)}.")
    return value


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """The finite numbers of a required attribute, and their strings.

    A decimal comma is read as a decimal point, unless it may separate thousands.

    Parameters
    ----------
    dataset : the header
    keyword : of the attribute
    count : how many numbers it must hold

    Returns
    -------
    ``count`` numbers in the attribute's own unit, and the same as written in the file, with decimal points

    Raises
    ------
    MissingAttribute
        If the attribute is absent or empty.
    InvalidAttribute
        If it does not hold ``count`` finite numbers.
    """
    name = dictionary_description(keyword)
    strings = _with_points(dataset, keyword)
    if not strings:
        raise MissingAttribute(f"{name}.")
    try:
        values = tuple(float(part) for part in strings)
    except ValueError:
        raise InvalidAttribute(f"{name} is not a number.") from None
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise InvalidAttribute(f"{name} must hold {count} finite numbers.")
    return values, strings


def integer(dataset: Dataset, keyword: str) -> int | None:
    """The integer value of an attribute; None if it is absent or empty.

    Raises
    ------
    InvalidAttribute
        If it is not one integer.
    """
    try:
        with without_pydicom_warnings():
            value = dataset.get(keyword)
        return None if value is None or value == "" else int(value)
    except Exception:  # noqa: BLE001  # pydicom raises many things for a value that cannot be decoded
        raise InvalidAttribute(f"{dictionary_description(keyword)} is not one whole number.") from None


def optional_integer(dataset: Dataset, keyword: str) -> int | None:
    """The integer value of an attribute; None if it is absent or not one integer."""
    try:
        return integer(dataset, keyword)
    except InvalidAttribute:
        return None


def optional_number(dataset: Dataset, keyword: str) -> float | None:
    """The finite number of an attribute that is not needed; None if it is absent or cannot be read.

    A decimal comma is read as a decimal point, unless it may separate thousands.
    """
    strings = _with_points(dataset, keyword)
    try:
        (value,) = {float(part) for part in strings}
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def decimal_commas(dataset: Dataset) -> tuple[str, ...]:
    """Names of the decimal strings (DS) of a dataset that contain a comma."""
    return tuple(dictionary_description(tag) for tag, words in _decimal_strings(dataset) if "," in words)


def _with_points(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a decimal string as far as its commas are unambiguous, also by other values."""
    words = with_decimal_points(texts(dataset, keyword))
    if keyword in _NEVER_PROVEN or not may_separate_thousands(words):
        return words
    others = [word for _, value in _decimal_strings(dataset) for word in value.split("\\")]
    return with_decimal_points(
        words, is_comma_proven=proves_decimal_comma([word.strip(" \0") for word in others])
    )


def _decimal_strings(dataset: Dataset) -> Iterator[tuple[int, str]]:
    """Tag and undecoded text of every decimal string at the top level of a dataset."""
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        vr = element.VR if element is not None else None
        if element is None or vr not in {"DS", "UN", None} or not dictionary_has_tag(tag):
            continue
        value = element.value
        if vr != "DS" and dictionary_VR(tag) != "DS":
            continue
        if isinstance(value, bytes):
            yield tag, value.decode("ascii", "replace")
        elif value is not None:
            yield tag, whole_text(dataset, keyword_for_tag(tag))


def slice_thickness(dataset: Dataset) -> float | None:
    """Slice Thickness in mm; None if it is absent or no plausible number. Geometry does not need it."""
    value = optional_number(dataset, "SliceThickness")
    return value if value is not None and 0 < value < _THICKEST_MM else None


def valid_uid(keyword: str, uid: str) -> str:
    """The UID, if objects that refer to it can be valid; an empty one is returned as it is.

    A component with a leading zero is accepted, since archives do; see `has_leading_zero`.

    Raises
    ------
    InvalidAttribute
        If it has more than 64 characters, or others than digits and points (PS3.5, 9.1).
    """
    name = dictionary_description(keyword)
    if len(uid) > _UID_LENGTH:
        raise InvalidAttribute(f"{name} has {len(uid)} characters; a UID has at most {_UID_LENGTH}.")
    if uid and not _UID.fullmatch(uid):
        raise InvalidAttribute(f"{name} is not a UID, which consists of numbers with points between them.")
    return uid


def whole_uid(part: str, uids: Iterable[str | None]) -> str:
    """The only one of some UIDs that contains a text; the text itself if it is one of them, or if none is."""
    known = {uid for uid in uids if uid is not None}
    found = [uid for uid in known if part and part in uid]
    return found[0] if part not in known and len(found) == 1 else part


def has_leading_zero(uid: str) -> bool:
    """Whether a component of a UID has a leading zero, which DICOM forbids (PS3.5, 9.1)."""
    return any(len(part) > 1 and part.startswith("0") for part in uid.split("."))
