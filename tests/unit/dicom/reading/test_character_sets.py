"""Names in any writing come through into the objects byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orgseg_node.core.contours import trace
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.objects.provenance import ModelVersion, Provenance
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.objects.seg import write_seg
from orgseg_node.dicom.reading.series import read_series
from tests.support.ct.phantom import PhantomOptions, build_ct_series, label_map_of
from tests.support.ct.zoo import Scan
from tests.support.ct.zoo_multiframe import write_enhanced

PROVENANCE = Provenance(
    job_id="names",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    models=(ModelVersion(name="model", version="1", sha256="0" * 64),),
)
NAMES = {
    "ISO_IR 100": ("Åström^Jörg", "Åström^Jörg".encode("latin-1")),
    "ISO_IR 144": ("Люкceмбypг", "Люкceмбypг".encode("iso8859-5")),
    "ISO_IR 192": ("Wang^XiaoDong=王^小东", "Wang^XiaoDong=王^小东".encode()),
    "ISO 2022 IR 87": (
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    "ISO 2022 IR 149": (
        "Hong^Gildong=洪^吉洞=홍^길동",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
}


def charset(term: str) -> str | list[str]:
    return ["", term] if term.startswith("ISO 2022") else term


def stored(dataset: Dataset) -> tuple[bytes, Dataset]:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    buffer.seek(0)
    return content, dcmread(buffer)


def raw_name(content: bytes) -> bytes:
    """The bytes of Patient's Name as they stand in a file, without the blank that makes them even."""
    element = dcmread(BytesIO(content), stop_before_pixels=True).get_item("PatientName")
    assert element is not None
    assert isinstance(element.value, bytes)
    return element.value.rstrip(b" ")


@pytest.mark.parametrize("term", NAMES)
def test_a_name_is_the_same_bytes_in_the_image_the_rtstruct_and_the_seg(
    tmp_path: Path, organ_table: OrganTable, term: str
) -> None:
    name, encoded = NAMES[term]
    options = PhantomOptions(
        slices=8, attributes={"SpecificCharacterSet": charset(term), "PatientName": name}
    )
    paths = build_ct_series(tmp_path, options)
    assert raw_name(paths[0].read_bytes()) == encoded
    series = read_series(tmp_path)
    label_map = label_map_of(series.grid, organ_table)
    for dataset in (
        write_rtstruct(trace(label_map), series, PROVENANCE),
        write_seg(label_map, series, PROVENANCE),
    ):
        content, read = stored(dataset)
        assert raw_name(content) == encoded
        assert read.PatientName == name
        assert str(read.PatientName) == name


@pytest.mark.parametrize("term", NAMES)
def test_a_name_survives_in_the_header_of_a_frame(tmp_path: Path, term: str) -> None:
    name, encoded = NAMES[term]
    values = {"SpecificCharacterSet": charset(term), "PatientName": name}
    write_enhanced(tmp_path, [Scan(heights_mm=(0.0, 3.0, 6.0), values=values)])
    series = read_series(tmp_path)
    assert series.header.PatientName.original_string == encoded
    assert str(series.header.PatientName) == name
