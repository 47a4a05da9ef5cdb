"""The proof of a SEG names the organs that differ, whatever went wrong with the object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.seg import SegKind, prove_seg, write_seg
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ProofFailed
from tests.support.ct.objects import PROVENANCE


@pytest.fixture
def written(series: CtSeries, label_map: LabelMap) -> Dataset:
    return write_seg(label_map, series, PROVENANCE)


@pytest.fixture(scope="module", params=SegKind)
def kind(request: pytest.FixtureRequest) -> SegKind:
    return request.param


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _flip_a_bit(dataset: Dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[0] ^= 1  # first pixel of the first frame, which belongs to the first segment
    dataset.PixelData = bytes(pixels)


def _wrong_source(dataset: Dataset) -> None:
    frames = dataset.PerFrameFunctionalGroupsSequence
    source = frames[1].DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
    frames[0].DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = source


def _unknown_source(dataset: Dataset) -> None:
    frames = dataset.PerFrameFunctionalGroupsSequence
    frames[0].DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def _wrong_place(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]


def _frame_of_nothing(dataset: Dataset) -> None:
    frame = dataset.PerFrameFunctionalGroupsSequence[0]
    frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 99


def _renamed(dataset: Dataset) -> None:
    dataset.SegmentSequence[0].SegmentLabel = "Aorta"


def _frame_lost(dataset: Dataset) -> None:
    del dataset["PerFrameFunctionalGroupsSequence"].value[-1]
    del dataset["PerFrameFunctionalGroupsSequence"].value[0]
    size = 41 * 43
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    dataset.PixelData = np.packbits(bits[size:], bitorder="little").tobytes()


@pytest.mark.parametrize(
    "damage",
    [_flip_a_bit, _wrong_source, _unknown_source, _wrong_place, _frame_of_nothing, _renamed, _frame_lost],
)
def test_proof_names_the_organ_that_differs(
    damage: Callable[[Dataset], None], written: Dataset, series: CtSeries, label_map: LabelMap
) -> None:
    prove_seg(written, label_map, series)
    reread = dcmread(BytesIO(_bytes(written)))  # highdicom lets frames share items in memory
    damage(reread)
    with pytest.raises(ProofFailed, match="SEG differs in: A_Aorta") as caught:
        prove_seg(reread, label_map, series)
    assert "Liver" not in str(caught.value)


def _pixel_of_another(dataset: Dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    first = pixels.index(3)
    pixels[first] = 1  # one voxel of the liver becomes aorta
    dataset.PixelData = bytes(pixels)


def _pixel_of_nothing(dataset: Dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[pixels.index(1)] = 77
    dataset.PixelData = bytes(pixels)


def _planes_exchanged(dataset: Dataset) -> None:
    size = dataset.Rows * dataset.Columns
    pixels = dataset.PixelData
    last, but_one = pixels[-size:], pixels[-2 * size : -size]  # highdicom begins with the last slice
    dataset.PixelData = pixels[: -2 * size] + last + but_one


def _turned(dataset: Dataset) -> None:
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]


@pytest.mark.parametrize(
    ("damage", "organs"),
    [
        (_pixel_of_another, "A_Aorta, Liver"),
        (_pixel_of_nothing, "A_Aorta, segment 77"),
        (_planes_exchanged, "Liver"),
        (_turned, "A_Aorta, Eye_L, Kidney_R, Liver, Rectum"),
        (_wrong_place, "Liver"),
    ],
)
def test_proof_of_a_label_map_names_the_organs_that_differ(
    damage: Callable[[Dataset], None], organs: str, series: CtSeries, label_map: LabelMap
) -> None:
    # in the first two slices only the liver, and there it differs from one to the other
    labels = label_map.labels.copy()
    labels[0, 0, 0] = 3
    label_map = replace(label_map, labels=labels)
    written = dcmread(BytesIO(_bytes(write_seg(label_map, series, PROVENANCE, kind=SegKind.LABELMAP))))
    written.decompress()
    prove_seg(written, label_map, series)
    damage(written)
    with pytest.raises(ProofFailed) as caught:
        prove_seg(written, label_map, series)
    assert caught.value.detail == f"SEG differs in: {organs}."


def test_proof_sees_a_single_voxel(kind: SegKind, series: CtSeries, label_map: LabelMap) -> None:
    written = write_seg(label_map, series, PROVENANCE, kind=kind)
    labels = label_map.labels.copy()
    labels[4, 30, 31] = 2
    with pytest.raises(ProofFailed, match="Eye_L"):
        prove_seg(written, replace(label_map, labels=labels), series)
