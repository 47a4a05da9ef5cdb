"""Whether a file is whole."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import threading
import zlib
from pathlib import Path

import pydicom.pixels
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from orgseg_node.dicom.decimal_commas import with_decimal_points
from orgseg_node.dicom.reading.files import (
    PYDICOM_LOGGERS,
    integer,
    open_header,
    text,
    texts,
    whole_text,
    without_pydicom_warnings,
)
from orgseg_node.errors import InvalidAttribute, NotDicom, TruncatedFile
from tests.support.ct.header_writing import put
from tests.support.ct.phantom import PhantomOptions, ct_datasets, save

SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}


def one(path: Path, syntax: str = SYNTAXES["explicit"], **attributes: object) -> Path:
    """One phantom slice as a file."""
    options = PhantomOptions(slices=1, rows=16, columns=16, attributes=attributes)
    return save(ct_datasets(options)[0], path, syntax)


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES.keys())
def test_a_whole_file_has_pixels_and_they_are_not_read(tmp_path: Path, syntax: str) -> None:
    header, has_pixels = open_header(one(tmp_path / "a", syntax))
    assert has_pixels
    assert header.PatientID == "PHANTOM-1"
    assert "PixelData" not in header


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES.keys())
def test_a_file_cut_anywhere_is_never_taken_for_a_whole_one(tmp_path: Path, syntax: str) -> None:
    path = one(tmp_path / "a", syntax)
    data = path.read_bytes()
    for length in [*range(1, len(data), 23), len(data) - 1]:
        path.write_bytes(data[:length])
        try:
            _, has_pixels = open_header(path)
        except (TruncatedFile, NotDicom) as error:
            assert isinstance(error, TruncatedFile) or length < 132  # noqa: PT017  # several outcomes are right
        else:
            assert not has_pixels


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "deflated"])
def test_a_file_without_pixel_data_is_whole(tmp_path: Path, syntax: str) -> None:
    assert not open_header(one(tmp_path / "a", SYNTAXES[syntax], PixelData=None))[1]


def test_a_file_that_ends_with_a_sequence_is_whole(tmp_path: Path) -> None:
    item = Dataset()
    item.CodeValue = "1"
    path = one(tmp_path / "a", PixelData=None, RequestAttributesSequence=Sequence([item]))
    dataset = dcmread(path)
    dataset["RequestAttributesSequence"].is_undefined_length = True
    for keyword in [e.keyword for e in dataset if e.tag > 0x00400275]:
        delattr(dataset, keyword)
    dataset.save_as(path)
    assert not open_header(path)[1]


def test_a_deflated_file_with_too_few_pixels_is_truncated(tmp_path: Path) -> None:
    path = one(tmp_path / "a")
    data = path.read_bytes()
    meta_end = data.index(b"\x08\x00\x05\x00CS")
    squeeze = zlib.compressobj(wbits=-15)
    cut = squeeze.compress(data[meta_end:-100]) + squeeze.flush()
    meta = data[:meta_end].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20])
    path.write_bytes(meta + cut)
    with pytest.raises(TruncatedFile):
        open_header(path)


def test_an_unreadable_place_is_not_dicom(tmp_path: Path) -> None:
    with pytest.raises(NotDicom, match="cannot be read"):
        open_header(tmp_path / "nowhere.dcm")
    with pytest.raises(NotDicom):
        open_header(tmp_path)


def test_text_without_dicom_prefix_is_not_dicom(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x" * 400)
    with pytest.raises(NotDicom):
        open_header(tmp_path / "a")


def test_texts_and_whole_numbers_are_trimmed_and_checked() -> None:
    dataset = Dataset()
    dataset.ImageType = ["ORIGINAL", "PRIMARY "]
    dataset.Rows = 5
    dataset.NumberOfFrames = ""
    dataset.WindowCenter = ["1", "2"]
    assert texts(dataset, "ImageType") == ("ORIGINAL", "PRIMARY")
    assert text(dataset, "PatientName") == ""
    assert (integer(dataset, "Rows"), integer(dataset, "NumberOfFrames"), integer(dataset, "Columns")) == (
        5,
        None,
        None,
    )
    with pytest.raises(InvalidAttribute):
        integer(dataset, "WindowCenter")


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        ("Brain\\Stem", "Brain\\Stem"),
        ("Brain\\\\Stem ", "Brain\\\\Stem"),
        (" Liver ", "Liver"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_backslash_in_a_name_stays(value: str | None, whole: str) -> None:
    dataset = Dataset()
    if value is not None:
        put(dataset, "ROIName", value)
    assert whole_text(dataset, "ROIName") == whole


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["2,5", "3"], ("2.5", "3")),
        (["-1024,000"], ("-1024.000",)),
        (["1,5e-3"], ("1.5e-3",)),
        (["0,000", "1,250"], ("0.000", "1.250")),
        (["1,250"], ("1,250",)),
        (["1,250", "0.5"], ("1,250", "0.5")),
        (["1,2,3", "x,y"], ("1,2,3", "x,y")),
    ],
)
def test_only_an_unambiguous_comma_is_a_decimal_comma(words: list[str], read: tuple[str, ...]) -> None:
    assert with_decimal_points(words) == read


def test_lines_of_pydicom_are_suppressed_in_this_thread_only(caplog: pytest.LogCaptureFixture) -> None:
    loggers = [logging.getLogger(name) for name in PYDICOM_LOGGERS]

    def log(line: str) -> None:
        for logger in loggers:
            logger.warning(line)

    with without_pydicom_warnings():
        log("quotes a header")
        other = threading.Thread(target=log, args=["of another thread"])
        other.start()
        other.join()
    log("afterwards")
    assert [record.getMessage() for record in caplog.records] == ["of another thread"] * len(loggers) + [
        "afterwards"
    ] * len(loggers)


def test_all_loggers_of_pydicom_are_known() -> None:
    for module in pkgutil.walk_packages(pydicom.pixels.__path__, "pydicom.pixels."):
        importlib.import_module(module.name)
    found = {
        name
        for name, logger in logging.Logger.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and name.split(".")[0] == "pydicom"
    }
    assert found == set(PYDICOM_LOGGERS)
