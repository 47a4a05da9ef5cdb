"""Single values are found in an encoded dataset, whatever is before them, without building datasets."""

from __future__ import annotations

import io
import struct
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from orgseg_node.dicom.encoded_values import find_values, unknown_vrs
from orgseg_node.errors import InputError, TooManyItems, TruncatedFile

SERIES = 0x0020000E
ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def encoded(*, implicit: bool, little: bool, undefined: bool) -> bytes:
    inner = Dataset()
    inner.SeriesInstanceUID, inner.ReferencedSOPInstanceUID = "9.9", "9.8"
    inner.is_undefined_length_sequence_item = undefined
    middle = Dataset()
    middle.ReferencedInstanceSequence = Sequence([inner, inner])
    middle["ReferencedInstanceSequence"].is_undefined_length = undefined
    middle.is_undefined_length_sequence_item = undefined
    dataset = Dataset()
    dataset.ReferencedSeriesSequence = Sequence([middle, Dataset(), middle])
    dataset["ReferencedSeriesSequence"].is_undefined_length = undefined
    dataset.SeriesInstanceUID = "1.2.3"
    dataset.InstanceNumber = "1"
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    write_dataset(buffer, dataset)
    return buffer.getvalue()


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("says_implicit", [True, False])
def test_the_value_at_the_top_is_found_behind_sequences(
    *, implicit: bool, little: bool, undefined: bool, says_implicit: bool
) -> None:
    data = encoded(implicit=implicit, little=little, undefined=undefined)
    found = find_values(io.BytesIO(data), {SERIES}, is_implicit_vr=says_implicit, is_little_endian=little)
    assert found[SERIES].strip(b"\0") == b"1.2.3"


@pytest.mark.parametrize("implicit_inside", [True, False])
def test_an_element_with_implicit_vr_among_others_is_no_unknown_vr(*, implicit_inside: bool) -> None:
    first = b"\x08\0\x05\0CS\x0a\0ISO_IR 100"
    other = (
        first + b"\x08\0\x08\0" + (b"\x10\0\0\0" if implicit_inside else b"CS\x10\0") + b"ORIGINAL\\PRIMARY"
    )
    data = other + b"\x08\0\x60\0??\x02\0CT" + b"\x20\0\x0e\0UI\4\x001.2\0" + b"\x28\0\x10\0US\2\0\0\2"
    assert unknown_vrs(io.BytesIO(data), is_little_endian=True) == [len(other) + 4]
    found = find_values(io.BytesIO(data), {SERIES}, is_implicit_vr=False, is_little_endian=True)
    assert found[SERIES].strip(b"\0") == b"1.2"


def test_empty_items_take_no_memory_and_their_number_is_limited() -> None:
    head = b"\x08\0\x40\x11SQ\0\0" + b"\xff" * 4
    bomb = head + (ITEM + bytes(4)) * 50_000 + END + b"\x20\0\x0e\0UI\4\x001.2\0" + b"\x28\0\x10\0US\2\0\0\2"
    tracemalloc.start()
    try:
        found = find_values(io.BytesIO(bomb), {SERIES}, is_implicit_vr=False, is_little_endian=True)
        assert tracemalloc.get_traced_memory()[1] < len(bomb) + 100_000
    finally:
        tracemalloc.stop()
    assert found[SERIES] == b"1.2\0"
    with pytest.raises(TooManyItems):
        find_values(io.BytesIO(bomb), {SERIES}, is_implicit_vr=False, is_little_endian=True, max_steps=50_000)


def test_a_value_that_is_cut_off_is_not_taken_for_a_shorter_one() -> None:
    data = encoded(implicit=False, little=True, undefined=True)
    for end in range(len(data) - 10):
        with pytest.raises(InputError):
            find_values(io.BytesIO(data[:end]), {SERIES}, is_implicit_vr=False, is_little_endian=True)


@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_any_bytes_give_values_or_an_error_with_a_code(data: bytes, implicit: bool, little: bool) -> None:  # noqa: FBT001
    with suppress(InputError):
        find_values(io.BytesIO(data), {SERIES}, is_implicit_vr=implicit, is_little_endian=little)


def test_a_sequence_without_an_end_is_cut_off() -> None:
    bomb = b"\x08\0\x40\x11SQ\0\0" + b"\xff" * 4 + struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    with pytest.raises(TruncatedFile):
        find_values(io.BytesIO(bomb), {SERIES}, is_implicit_vr=False, is_little_endian=True)
