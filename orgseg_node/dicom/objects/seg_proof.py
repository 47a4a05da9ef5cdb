"""Proves that a Segmentation equals the label map: reads its frames without the library that wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.volume import LabelMap, Mask, counts_by_plane
from orgseg_node.dicom.objects.object_header import to_ascii
from orgseg_node.dicom.objects.rtstruct_reader import check_same_grid
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid, ProofFailed

SAME_POSITION_MM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _SegmentFrame:
    """One segment in one frame: its label, the index of its CT slice (None if it has none), its voxels."""

    name: str
    k: int | None
    mask: Mask


def prove_seg(dataset: Dataset, label_map: LabelMap, series: CtSeries) -> None:
    """Prove that a Segmentation, saved and read again, equals the label map in every voxel.

    Parameters
    ----------
    dataset : the result of `write_seg`, of either kind
    label_map : the expected organs, on the slices of the CT
    series : the CT of both

    Raises
    ------
    ProofFailed
        With the names of the organs that differ, are missing, should not be there, or are on the wrong slice.
    """
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    check_same_grid(label_map, series)
    reread = dcmread(buffer)
    counts = occurring_labels(label_map)
    label_of_name = {to_ascii(label_map.organs[label].name): label for label in counts}
    numbered = [s for s in reread.SegmentSequence if s.SegmentNumber != 0]  # 0: background of a label map
    name_of_number = {int(s.SegmentNumber): str(s.SegmentLabel) for s in numbered}
    wrong = label_of_name.keys() ^ set(name_of_number.values())
    stored = dict.fromkeys(label_of_name, 0)
    for found in _segment_frames(reread, series, name_of_number):
        if found.name not in label_of_name:
            wrong.add(found.name)
            continue
        stored[found.name] += int(found.mask.sum())
        label = label_of_name[found.name]
        if found.k is None or not np.array_equal(found.mask, label_map.labels[found.k] == label):
            wrong.add(found.name)
    wrong |= {name for name, label in label_of_name.items() if stored[name] != counts[label]}
    if wrong:
        raise ProofFailed(f"SEG differs in: {', '.join(sorted(wrong))}.")


def occurring_labels(label_map: LabelMap) -> dict[int, int]:
    """Voxels of each label that occurs, in the order of the labels.

    Raises
    ------
    ObjectInvalid
        If a label occurs that has no organ.
    """
    counts = counts_by_plane(label_map.labels).sum(axis=0)
    occurring = [label for label in np.flatnonzero(counts).tolist() if label != 0]
    unknown = [label for label in occurring if label not in label_map.organs]
    if unknown:
        raise ObjectInvalid(f"Labels {unknown} occur but have no organ.")
    return {label: int(np.take(counts, label)) for label in occurring}


def _segment_frames(
    dataset: Dataset, series: CtSeries, name_of_number: dict[int, str]
) -> Iterator[_SegmentFrame]:
    """Every segment of every frame."""
    k_of_source = {(one.sop_instance_uid, one.frame): k for k, one in enumerate(series.slices)}
    frames = range(len(dataset.PerFrameFunctionalGroupsSequence))
    for index, pixels in zip(frames, _frames(dataset), strict=False):
        source = _group(dataset, index, "DerivationImageSequence").SourceImageSequence[0]
        number = source.get("ReferencedFrameNumber")
        k = k_of_source.get((source.ReferencedSOPInstanceUID, None if number is None else int(number)))
        if k is not None and not _has_position_of_slice(dataset, index, series, k):
            k = None
        for segment, mask in _segments(dataset, index, pixels):
            yield _SegmentFrame(name=name_of_number.get(segment, f"segment {segment}"), k=k, mask=mask)


def _segments(dataset: Dataset, index: int, pixels: NDArray[np.uint8]) -> Iterator[tuple[int, Mask]]:
    """Numbers and voxels of the segments of a frame: one for BINARY, all that occur for LABELMAP."""
    if dataset.SegmentationType == "BINARY":
        identification = _group(dataset, index, "SegmentIdentificationSequence")
        yield int(identification.ReferencedSegmentNumber), pixels > 0
        return
    for number in np.flatnonzero(np.bincount(pixels.ravel())).tolist():
        if number:
            yield number, pixels == number


def _has_position_of_slice(dataset: Dataset, index: int, series: CtSeries, k: int) -> bool:
    """Whether the corners of a frame are at the positions of those of the CT slice."""
    ct_slice = series.slices[k]
    stated = _corners(
        _group(dataset, index, "PlanePositionSequence").ImagePositionPatient,
        _group(dataset, index, "PlaneOrientationSequence").ImageOrientationPatient,
        _group(dataset, index, "PixelMeasuresSequence").PixelSpacing,
        (dataset.Rows, dataset.Columns),
    )
    true = _corners(
        ct_slice.position_mm, ct_slice.orientation, series.pixel_spacing_mm, (series.rows, series.columns)
    )
    # the decimal strings of the frame are rounded once more than those of the slice
    return bool(np.linalg.norm(stated - true, axis=1).max() <= 1.5 * SAME_POSITION_MM)


def _corners(position: object, orientation: object, spacing: object, size: tuple[int, int]) -> FloatArray:
    """(4, 3) centres of the corner pixels of a plane, LPS mm (PS3.3 C.7.6.2.1.1)."""
    row, column = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    down_mm, across_mm = np.asarray(spacing, dtype=np.float64) * (np.asarray(size) - 1)
    steps = np.array([(0, 0), (0, across_mm), (down_mm, 0), (down_mm, across_mm)])
    corners: FloatArray = np.asarray(position, dtype=np.float64) + steps @ np.array([column, row])
    return corners


def _frames(dataset: Dataset) -> Iterator[NDArray[np.uint8]]:
    """The frames one after the other, each (J, I)."""
    if dataset.SegmentationType != "BINARY":
        yield from iter_pixels(dataset, raw=True)
        return
    # bit-packed (PS3.5 8.1.1): lowest bit first, frames without padding between them
    size = dataset.Rows * dataset.Columns
    for index in range(int(dataset.NumberOfFrames)):
        first = index * size
        packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)[first // 8 : (first + size + 7) // 8]
        bits = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + size]
        yield bits.reshape(dataset.Rows, dataset.Columns)


def _group(dataset: Dataset, index: int, keyword: str) -> Dataset:
    """A functional group of a frame: its own, or the shared one (PS3.3 C.7.6.16)."""
    own = dataset.PerFrameFunctionalGroupsSequence[index]
    groups = own if keyword in own else dataset.SharedFunctionalGroupsSequence[0]
    item: Dataset = groups[keyword][0]
    return item
