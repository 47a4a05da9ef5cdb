"""Proof that a Segmentation is the label map: its frames read again, without the library that wrote them."""

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
from orgseg_node.dicom.objects.object_header import plain
from orgseg_node.dicom.objects.rtstruct_reader import check_same_grid
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid, ProofFailed

SAME_PLACE_MM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shown:
    """One segment in one frame: its name, the slice the frame stands for (None if it is none), its voxels."""

    name: str
    k: int | None
    mask: Mask


def prove_seg(dataset: Dataset, label_map: LabelMap, series: CtSeries) -> None:
    """Show that a Segmentation, saved and read again, is the label map to the voxel.

    Parameters
    ----------
    dataset : what `write_seg` gave, of either kind
    label_map : what it must say
    series : the CT of both

    Raises
    ------
    ProofFailed
        Naming the organs that differ, are missing or are too many, or lie on the wrong slice.
    """
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    check_same_grid(label_map, series)
    reread = dcmread(buffer)
    counts = occurring_labels(label_map)
    label_of_name = {plain(label_map.organs[label].name): label for label in counts}
    numbered = [s for s in reread.SegmentSequence if s.SegmentNumber != 0]  # 0: background of a label map
    name_of_number = {int(s.SegmentNumber): str(s.SegmentLabel) for s in numbered}
    wrong = label_of_name.keys() ^ set(name_of_number.values())
    stored = dict.fromkeys(label_of_name, 0)
    for shown in _shown(reread, series, name_of_number):
        if shown.name not in label_of_name:
            wrong.add(shown.name)
            continue
        stored[shown.name] += int(shown.mask.sum())
        label = label_of_name[shown.name]
        if shown.k is None or not np.array_equal(shown.mask, label_map.labels[shown.k] == label):
            wrong.add(shown.name)
    wrong |= {name for name, label in label_of_name.items() if stored[name] != counts[label]}
    if wrong:
        raise ProofFailed(f"SEG differs in: {', '.join(sorted(wrong))}.")


def occurring_labels(label_map: LabelMap) -> dict[int, int]:
    """Voxels of each label that occurs, in the order of the labels.

    Raises
    ------
    ObjectInvalid
        If a label occurs that belongs to no organ.
    """
    counts = counts_by_plane(label_map.labels).sum(axis=0)
    occurring = [label for label in np.flatnonzero(counts).tolist() if label != 0]
    unknown = [label for label in occurring if label not in label_map.organs]
    if unknown:
        raise ObjectInvalid(f"Labels {unknown} occur but belong to no organ.")
    return {label: int(np.take(counts, label)) for label in occurring}


def _shown(dataset: Dataset, series: CtSeries, name_of_number: dict[int, str]) -> Iterator[_Shown]:
    """Every segment of every frame."""
    k_of_source = {(one.sop_instance_uid, one.frame): k for k, one in enumerate(series.slices)}
    frames = range(len(dataset.PerFrameFunctionalGroupsSequence))
    for index, pixels in zip(frames, _frames(dataset), strict=False):
        source = _group(dataset, index, "DerivationImageSequence").SourceImageSequence[0]
        number = source.get("ReferencedFrameNumber")
        k = k_of_source.get((source.ReferencedSOPInstanceUID, None if number is None else int(number)))
        if k is not None and not _is_in_place(dataset, index, series, k):
            k = None
        for segment, mask in _segments(dataset, index, pixels):
            yield _Shown(name=name_of_number.get(segment, f"segment {segment}"), k=k, mask=mask)


def _segments(dataset: Dataset, index: int, pixels: NDArray[np.uint8]) -> Iterator[tuple[int, Mask]]:
    """Numbers and voxels of the segments of a frame: the one it is of, or all that a label map holds."""
    if dataset.SegmentationType == "BINARY":
        identification = _group(dataset, index, "SegmentIdentificationSequence")
        yield int(identification.ReferencedSegmentNumber), pixels > 0
        return
    for number in np.flatnonzero(np.bincount(pixels.ravel())).tolist():
        if number:
            yield number, pixels == number


def _is_in_place(dataset: Dataset, index: int, series: CtSeries, k: int) -> bool:
    """Whether the corners of a frame lie where those of the CT slice lie."""
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
    # the frame's decimal strings are rounded once more than the slice's
    return bool(np.linalg.norm(stated - true, axis=1).max() <= 1.5 * SAME_PLACE_MM)


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
    """A functional group of a frame: its own, or that of all frames (PS3.3 C.7.6.16)."""
    own = dataset.PerFrameFunctionalGroupsSequence[index]
    groups = own if keyword in own else dataset.SharedFunctionalGroupsSequence[0]
    item: Dataset = groups[keyword][0]
    return item
