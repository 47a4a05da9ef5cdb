"""Received bytes become a part 10 file unchanged, and which UIDs may become names."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from orgseg_node.dicom.reading import part10
from orgseg_node.errors import InputError, MissingAttribute, NotDicom
from tests.support.ct.phantom import PhantomOptions, build_ct_series


def encoded(folder: Path, syntax: str = ExplicitVRLittleEndian) -> tuple[bytes, pydicom.FileDataset]:
    (path,) = build_ct_series(folder, PhantomOptions(slices=1, rows=16, columns=16, transfer_syntax=syntax))
    data, kept = part10.split_part10(path.read_bytes())
    assert kept == syntax
    return data, pydicom.dcmread(path)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_the_uids_are_read_from_the_encoded_bytes(tmp_path: Path, syntax: str) -> None:
    data, dataset = encoded(tmp_path, syntax)
    header = part10.read_header(data, syntax)
    assert header.sop_uid == dataset.SOPInstanceUID
    assert header.series_uid == dataset.SeriesInstanceUID
    assert header.sop_class_uid == dataset.SOPClassUID


def test_a_written_file_is_dicom_part_10_around_the_same_bytes(tmp_path: Path) -> None:
    data, dataset = encoded(tmp_path)
    header = part10.read_header(data, ExplicitVRLittleEndian)
    content = part10.part10(data, header, ExplicitVRLittleEndian)
    assert part10.split_part10(content) == (data, ExplicitVRLittleEndian)
    assert pydicom.dcmread(io.BytesIO(content)) == dataset


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_dataset_without_preamble_and_meta_information_is_split_too(tmp_path: Path, syntax: str) -> None:
    data, _ = encoded(tmp_path, syntax)
    assert part10.split_part10(data) == (data, syntax)


def test_several_values_of_a_uid_are_never_the_text_of_a_list(tmp_path: Path) -> None:
    _, dataset = encoded(tmp_path)
    dataset.StudyInstanceUID = ["1.2", "1.3"]
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    data, syntax = part10.split_part10(buffer.getvalue())
    assert part10.read_header(data, syntax).study_uid == "1.2\\1.3"


@given(data=st.binary(max_size=300))
def test_any_bytes_give_a_header_or_a_coded_refusal(data: bytes) -> None:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        try:
            header = part10.read_header(data, syntax)
        except InputError:
            continue
        assert part10.valid_uid(header.series_uid)


@given(cut=st.integers(0, 60))
def test_a_truncated_header_is_refused_not_guessed(cut: int) -> None:
    ds = pydicom.Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = "1.2", "1.3", "1.4"
    ds.InstanceNumber = 1
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    pydicom.filewriter.write_dataset(buffer, ds)
    data = buffer.getvalue()
    if cut >= 36 + 8:  # three elements of 12 bytes, and the head of the next
        assert part10.read_header(data, ImplicitVRLittleEndian).series_uid == "1.4"
    else:
        with pytest.raises(InputError):
            part10.read_header(data[:cut], ImplicitVRLittleEndian)


@given(text=st.text(max_size=70))
def test_no_text_that_is_a_uid_can_leave_its_folder(text: str) -> None:
    if part10.valid_uid(text):
        assert len(text) <= 64
        assert set(text) <= set("0123456789.")
        assert not text.startswith(".")
        assert ".." not in text
        assert Path("/inbox", text).parent == Path("/inbox")


@pytest.mark.parametrize("text", ["", ".", "..", "1..2", "1.2.", ".1", "1/2", "1.2\n", "1" * 65, "٣.٤"])
def test_what_is_no_uid_is_no_name(text: str) -> None:
    assert not part10.valid_uid(text)


def test_a_missing_uid_is_reported_as_missing() -> None:
    instance_number = bytes.fromhex("20001300 49530200 3120")
    with pytest.raises(MissingAttribute):
        part10.read_header(instance_number, ExplicitVRLittleEndian)


def test_files_without_meta_information_are_refused() -> None:
    for content in (b"", b"\0" * 128 + b"DICM", b"\0" * 200):
        with pytest.raises(NotDicom):
            part10.split_part10(content)
