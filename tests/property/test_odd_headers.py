"""Random odd headers: never a crash, never a failure after the survey, never half a volume without a word."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import MRImageStorage

from orgseg_node.core.checks import Level
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.reading.reader import read_slices
from orgseg_node.dicom.reading.series import files_in, survey
from orgseg_node.errors import InputError
from tests.support.ct.header_writing import all_objects, put
from tests.support.ct.phantom import PhantomOptions, build_ct_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom.*")  # of the writer of these files

COUNT = 12
SMALL = PhantomOptions(
    slices=COUNT, rows=24, columns=24, pixel_spacing_mm=(10.0, 10.0), slice_spacing_mm=5.0, noise_hu=3.0
)
Edit = Callable[[Dataset], None]
_TEXTS = ("", " ", "2,5", "NX DE_XX", "1\\2", "-3", "nan", "inf", "1e400", "\xff\xfe", "x" * 80, "0")
_SPLITTING: dict[str, Sequence[str | None]] = {
    "PixelSpacing": ("10.003\\10.003", "10.0003\\10.0", "9.98\\9.98", "9\\9", "10\\10.0000001"),
    "PatientPosition": (None, "", "HFP", "FFS"),
    "ImageOrientationPatient": (
        "0.9999999\\0.0004\\0\\-0.0004\\0.9999999\\0",
        "1\\0.00005\\0\\-0.00005\\1\\0",
        "1\\0.01\\0\\-0.01\\1\\0",
    ),
    "FrameOfReferenceUID": ("1.2.3", None),
    "SeriesInstanceUID": (None,),
    "AcquisitionNumber": ("1", "7", None),
    "TemporalPositionIdentifier": ("1", "2"),
    "ConvolutionKernel": ("B30f", "B70f", None),
    "ContentDate": ("20200101", "20200102"),
    "AcquisitionTime": ("101010", "111111.5"),
    "SeriesDescription": ("50%", "60%", None),
    "ImageComments": ("a", "b"),
    "KVP": ("100", "120", "120,0"),
    "ImageType": ("ORIGINAL\\PRIMARY\\LOCALIZER", "DERIVED\\SECONDARY", None),
    "SOPClassUID": (MRImageStorage,),
}
_COPIED = (
    "StudyDescription",
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "PositionReferenceIndicator",
    "StudyID",
    "AccessionNumber",
    "PatientSex",
    "PatientBirthDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_NOT_NEEDED = ("GantryDetectorTilt", "PixelPaddingValue", "Manufacturer", "KVP", "SliceThickness")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")


def _set(keyword: str, value: str | None, vr: str | None = None) -> Edit:
    def edit(dataset: Dataset) -> None:
        if value is None:
            dataset.pop(keyword, None)
        else:
            put(dataset, keyword, value, vr)

    return edit


def _splits(draw: random.Random) -> Edit:
    keyword = draw.choice(list(_SPLITTING))
    return _set(keyword, draw.choice(_SPLITTING[keyword]))


def _thickness(draw: random.Random) -> Edit:
    return _set("SliceThickness", draw.choice(_TEXTS))


def _copied(draw: random.Random) -> Edit:
    if draw.random() < 0.2:
        item = Dataset()
        for keyword in draw.sample(("CodeValue", "CodingSchemeDesignator", "CodeMeaning"), 2):
            setattr(item, keyword, "113100")
        return lambda dataset: setattr(dataset, "DeidentificationMethodCodeSequence", Items([item]))
    if draw.random() < 0.3:
        value = draw.choice(["1." + "2" * 70, "ANON-1", "1.02.3", "1..2", ".1", "1.2.3.4"])
        return _set(draw.choice(_UIDS), value)
    return _set(draw.choice(_COPIED), draw.choice(_TEXTS))


def _not_needed(draw: random.Random) -> Edit:
    if draw.random() < 0.2:
        return _set("RescaleType", "US")
    keyword, value = draw.choice(_NOT_NEEDED), draw.choice(_TEXTS)
    return _set(keyword, value, "LO" if keyword == "PixelPaddingValue" else None)


KINDS = {"splits": _splits, "thickness": _thickness, "copied": _copied, "not needed": _not_needed}


def _chosen(draw: random.Random) -> set[int]:
    """The slices that are changed."""
    step = draw.choice((1, 2, 2, 2, 3))
    where = draw.choice((range(0, COUNT, step), range(1, COUNT, step), range(COUNT // 2)))
    return set(where) if draw.random() < 0.8 else set(draw.sample(range(COUNT), draw.randint(1, COUNT)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(14))
def test_an_odd_header_is_refused_at_the_survey_or_gives_every_object(
    tmp_path: Path, organ_table: OrganTable, kind: str, seed: int
) -> None:
    draw = random.Random(f"{kind} {seed}")
    edits = [KINDS[kind](draw) for _ in range(draw.randint(1, 2))]
    chosen = _chosen(draw)
    attributes = {"AcquisitionNumber": 3, "TemporalPositionIdentifier": 3, "SeriesDescription": "40%"}
    options = replace(SMALL, attributes=attributes if draw.random() < 0.5 else {})

    def change(k: int, dataset: Dataset) -> None:
        if k in chosen:
            for edit in edits:
                edit(dataset)

    build_ct_series(tmp_path, options, change)
    found = survey(files_in(tmp_path))
    assert all(isinstance(refusal.error, InputError) and refusal.error.sentence for refusal in found.refused)
    if kind in {"thickness", "not needed"}:
        assert [len(series.slices) for series in found.accepted] == [COUNT]
    is_one_series = len({series.series_instance_uid for series in found.accepted}) < 2
    for series in found.accepted:
        if is_one_series and len(series.slices) < COUNT:
            assert any(finding.level is not Level.INFO for finding in series.findings) or found.refused
        assert read_slices(series).shape == (len(series.slices), 24, 24)
        all_objects(series, organ_table)
