"""Folders with more than one volume: phases, series, frames of reference, multi-frame files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from benchmarks.series_zoo.case import ZooCase, exact, parts, refused
from tests.support.ct import zoo
from tests.support.ct.phantom import save, uid
from tests.support.ct.zoo import Field, Scan, Stack, decimal, images, regular, write
from tests.support.ct.zoo_multiframe import write_concatenation, write_enhanced, write_legacy_converted

_PARTS, _SERIES = "INPUT_SEVERAL_PARTS", "INPUT_SEVERAL_SERIES"
_MEMBER = {"SeriesInstanceUID": uid("zoo", "study", "series"), "SeriesNumber": 2}
"""Attributes that put a scan into the same series, whatever its SOP Instance UIDs."""


def _phases(folder: Path, values: Sequence[Mapping[str, Any]]) -> list[Stack]:
    """Phases of one series at the same positions, which differ in some attribute."""
    found = []
    for n, value in enumerate(values):
        scan = Scan(
            series=f"phase {n}",
            heights_mm=regular(12),
            shows=Field(breath_mm=1.5 * n),
            values=_MEMBER | dict(value),
        )
        found.append(write(folder, scan))
    return found


def _by(keyword: str, *values: object) -> Any:
    return lambda folder: _phases(folder, [{keyword: value} for value in values])


def _identical_slices_at_the_top(folder: Path) -> list[Stack]:
    """Phases with some identical slices, such as air above the head."""
    found = []
    for n in range(2):
        scan = Scan(
            series=f"phase {n}",
            shows=Field(breath_mm=4.0 * n, still_above_mm=16.0),
            values=_MEMBER | {"TemporalPositionIdentifier": n + 1},
        )
        found.append(write(folder, scan))
    return found


def _partial_second_phase(folder: Path) -> list[Stack]:
    """Some slices twice with other pixels, as when a part of the body was scanned again."""
    stack = write(folder, Scan())
    again = Scan(series="again", shows=Field(breath_mm=4.0), values=_MEMBER | {"AcquisitionNumber": 2})
    return [stack, write(folder, again, lambda k, _: 6 <= k < 11)]


def _localizer(k: int) -> Dataset:
    """A localizer: one coronal image in the series of the slices, or in another."""
    scan = Scan(
        heights_mm=(0.0, 1.0),
        orientation=zoo.CORONAL,
        rows=48,
        columns=80,
        series=f"scout {k}",
        values={
            "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
            "FrameOfReferenceUID": uid("zoo", "scout"),
        },
    )
    return images(scan)[0][0]


def _localizer_inside(folder: Path, *, marked: bool) -> list[Stack]:
    stack = write(folder, Scan())
    localizer = _localizer(0)
    localizer.SeriesInstanceUID = uid("zoo", "study", "series")
    localizer.SeriesNumber = 2
    if not marked:
        localizer.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        localizer.FrameOfReferenceUID = uid("zoo", "study", "frame")
    save(localizer, folder / zoo.file_name(localizer))
    return [stack]


def _capture() -> Dataset:
    """A screenshot of the scanner, with Modality CT."""
    dataset = images(Scan(heights_mm=(0.0, 1.0), series="capture", number=90))[0][0]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
        delattr(dataset, keyword)
    _set_sop_class(dataset, SecondaryCaptureImageStorage)
    dataset.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    return dataset


def _report(sop_class: str, number: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPInstanceUID = uid("zoo", "report", number)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("zoo", "study"), uid("zoo", "reports", number)
    dataset.Modality, dataset.SeriesNumber = "SR", number
    dataset.PatientName, dataset.PatientID = "Zoo^Animal", "ZOO-1"
    _set_sop_class(dataset, sop_class)
    return dataset


def _set_sop_class(dataset: Dataset, sop_class: str) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def _mixed_study(folder: Path) -> list[Stack]:
    """A contrast study as it is sent: localizer, two series, reformat, dose report, screenshot."""
    for dataset in (
        _localizer(1),
        _capture(),
        _report(EnhancedSRStorage, 91),
        _report(ComprehensiveSRStorage, 92),
    ):
        save(dataset, made_folder(folder) / zoo.file_name(dataset))
    reformat = Scan(
        series="reformat",
        number=5,
        orientation=zoo.CORONAL,
        values={"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]},
    )
    write(folder, reformat)
    native = write(folder, Scan(series="native", number=3))
    contrast = Scan(series="contrast", number=4, heights_mm=regular(25, 2.0), shows=Field(breath_mm=2.0))
    return [native, write(folder, contrast)]


def made_folder(folder: Path) -> Path:
    """The folder, created if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _series_and_reformat(folder: Path) -> list[Stack]:
    """An axial series and its coronal reformat under one Series Instance UID."""
    stack = write(folder, Scan())
    write(folder, Scan(series="reformat", orientation=zoo.CORONAL, values=_MEMBER))
    return [stack]


def _two_frames_of_reference(folder: Path) -> list[Stack]:
    first = write(folder, Scan())
    other = Scan(series="moved", frame="moved", shows=Field(breath_mm=7.0), values=_MEMBER)
    return [first, write(folder, other)]


def _two_sizes(folder: Path) -> list[Stack]:
    """A large and a small field of view reconstructed from one scan, under one Series Instance UID."""
    first = write(folder, Scan())
    zoom = Scan(series="zoom", rows=80, columns=80, spacing_mm=(1.0, 1.0), values=_MEMBER)
    return [first, write(folder, zoom)]


def _two_patients(folder: Path) -> list[Stack]:
    first = write(folder, Scan())
    other = Scan(series="other", study="other", values={"PatientID": "ZOO-2", "PatientName": "Other^Animal"})
    return [first, write(folder, other)]


def _two_patients_in_one_series(folder: Path) -> list[Stack]:
    def rename(k: int, dataset: Dataset) -> None:
        if k >= 10:
            dataset.PatientID = "ZOO-2"

    return [write(folder, Scan(), rename)]


def _mr(folder: Path) -> list[Stack]:
    def change(_: int, dataset: Dataset) -> None:
        dataset.Modality = "MR"
        _set_sop_class(dataset, MRImageStorage)

    return [write(folder, Scan(), change)]


def _interleaved(folder: Path) -> list[Stack]:
    """Two acquisitions, the second half a slice further and in another breathing phase, in one series."""
    first = write(folder, Scan())
    second = Scan(
        series="second",
        heights_mm=[h + 1.5 for h in regular(20)],
        shows=Field(breath_mm=5.0),
        values=_MEMBER | {"AcquisitionNumber": 2, "AcquisitionTime": "101750"},
    )
    return [first, write(folder, second)]


def _two_enhanced_stacks(folder: Path) -> list[Stack]:
    return write_enhanced(folder, [Scan(), Scan(heights_mm=regular(20, 2.0))], stacks=True)


def _concatenation(folder: Path) -> list[Stack]:
    return [write_concatenation(folder, Scan(), split=8)]


def _frames_in_plain_ct(folder: Path) -> list[Stack]:
    """Several frames in a CT Image Storage, which allows only one."""
    stacks = write_enhanced(folder, [Scan()])
    (path,) = folder.iterdir()
    dataset = dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
    _set_sop_class(dataset, CTImageStorage)
    dataset.save_as(path)
    return stacks


def _two_enhanced_phases(folder: Path) -> list[Stack]:
    return write_enhanced(folder, [Scan(), Scan(shows=Field(breath_mm=3.0))])


_SHUFFLED = tuple(int(k) for k in np.random.default_rng(3).permutation(20))
_GAPS = tuple(h for k, h in enumerate(regular(20)) if k not in {6, 7, 13})
_TEN = tuple(range(1, 11))

STUDIES: tuple[ZooCase, ...] = (
    exact("localizer inside", lambda folder: _localizer_inside(folder, marked=True)),
    exact("localizer inside, not marked as one", lambda folder: _localizer_inside(folder, marked=False)),
    parts("2 phases at the same positions, by Acquisition Number", _by("AcquisitionNumber", 1, 2), _PARTS),
    parts("4DCT, 2 phases, by Temporal Position Identifier", _by("TemporalPositionIdentifier", 1, 2), _PARTS),
    parts(
        "4DCT, 10 phases, by Temporal Position Identifier", _by("TemporalPositionIdentifier", *_TEN), _PARTS
    ),
    parts("4DCT, 10 phases, by Acquisition Number", _by("AcquisitionNumber", *_TEN), _PARTS),
    parts(
        "4DCT, 10 phases, by Acquisition Time",
        _by("AcquisitionTime", *[f"1016{n:02}.5" for n in _TEN]),
        _PARTS,
    ),
    parts("4DCT, identical slices at the top of both phases", _identical_slices_at_the_top, _PARTS),
    refused(
        "2 phases that no attribute distinguishes", _by("StationName", "A", "A"), "INPUT_DUPLICATE_SLICES"
    ),
    parts("some slices scanned again", _partial_second_phase, _PARTS),
    parts("two acquisitions, half a slice apart", _interleaved, _PARTS),
    parts("two tube voltages at the same positions", _by("KVP", "80", "140"), _PARTS),
    parts("two kernels at the same positions", _by("ConvolutionKernel", "B30f", "B60f"), _PARTS),
    parts("mixed study", _mixed_study, _SERIES),
    exact("axial series and reformat under one UID", _series_and_reformat),
    parts("two frames of reference in one series", _two_frames_of_reference, _PARTS),
    parts("two fields of view in one series", _two_sizes, _PARTS),
    refused("two patients", _two_patients, "INPUT_SEVERAL_PATIENTS"),
    refused("two patients in one series", _two_patients_in_one_series, "INPUT_SEVERAL_PATIENTS"),
    refused("MR", _mr, "INPUT_WRONG_MODALITY"),
    exact("Enhanced CT", lambda folder: write_enhanced(folder, [Scan()])),
    exact("Enhanced CT, frames shuffled", lambda folder: write_enhanced(folder, [Scan()], _SHUFFLED)),
    exact(
        "Enhanced CT, JPEG 2000, frames missing",
        lambda folder: write_enhanced(folder, [Scan(heights_mm=_GAPS, syntax=JPEG2000Lossless)]),
    ),
    exact(
        "Enhanced CT, tilt, rescale per frame",
        lambda folder: write_enhanced(
            folder, [Scan(shear=(0.0, 0.2), slopes={k: (1.0 + k % 3, -1024.0 - k) for k in range(20)})]
        ),
    ),
    parts("Enhanced CT, two stacks in one file", _two_enhanced_stacks, _PARTS),
    exact("Enhanced CT in two files, a concatenation", _concatenation),
    refused("several frames in a CT Image Storage", _frames_in_plain_ct, "INPUT_MULTIFRAME"),
    parts("Enhanced CT, 2 phases", _two_enhanced_phases, _PARTS),
    exact("Legacy Converted Enhanced CT", lambda folder: [write_legacy_converted(folder, Scan())]),
    exact(
        "Legacy Converted Enhanced CT, feet first, non-square",
        lambda folder: [
            write_legacy_converted(
                folder,
                Scan(orientation=zoo.FFS, spacing_mm=(1.5, 2.0), values={"SpacingBetweenSlices": decimal(3)}),
            )
        ],
    ),
)
