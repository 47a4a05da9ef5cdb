"""Classifies one file: a CT slice, the slices of its frames, or the reason why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)

from orgseg_node.core.geometry import Vector
from orgseg_node.dicom.reading.files import (
    integer,
    numbers,
    open_header,
    required_text,
    slice_thickness,
    text,
    texts,
    uid_name,
)
from orgseg_node.dicom.reading.limits import check_size
from orgseg_node.dicom.reading.multiframe import frame_headers
from orgseg_node.errors import (
    HuOutOfRange,
    InputError,
    InvalidAttribute,
    LossyCompression,
    MissingAttribute,
    MultiframeImage,
    NoPixelData,
    NotDicom,
    UnsupportedPixels,
    UnsupportedSyntax,
    WrongModality,
)

SUPPORTED_SYNTAXES = frozenset(
    {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
        JPEG2000,  # unless the header states lossy compression
    }
)
# JPEG processes with a discrete cosine transform, JPEG-LS near-lossless (PS3.6, A; several retired)
_LOSSY_SYNTAXES = frozenset(
    {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 52, 53, 54, 55, 56, 59, 60, 61, 62, 63, 64, 81)}
)
_MULTIFRAME_CT = {EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
_UNIT_TOLERANCE = 1e-3
# numbers beyond these are damage and would overflow
_FARTHEST_MM, _WIDEST_PIXEL_MM, _LARGEST_RESCALE = 1e12, 1e3, 1e6

NO_UID = "frame of reference "
"""Prefix of the key of a series without a Series Instance UID."""

DISCRIMINATING_ATTRIBUTES = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NominalPercentageOfRespiratoryPhase",
    "NominalPercentageOfCardiacPhase",
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "StackID",
    "KVP",
    "ConvolutionKernel",
    "ImageType",
    "TriggerTime",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "FrameAcquisitionDateTime",
    "FrameReferenceDateTime",
    "ContentTime",
    "SeriesDescription",
    "ImageComments",
)
"""Attributes that separate phases and acquisitions in one series, the most specific first."""

Orientation = tuple[float, float, float, float, float, float]


class Reason(StrEnum):
    """Why a file was set aside: it belongs to no CT volume, which is not an error."""

    NOT_DICOM = "not a DICOM file"
    LOCALIZER = "localizer"
    CAPTURE = "secondary capture"
    COPY = "the same image once more"
    OTHER_GEOMETRY = "image of another direction, size or place than its series"
    OTHER_MODALITY = "image of another modality"
    OTHER_OBJECT = "no image (directory, report, structure set or the like)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A file that is no CT slice, which is not an error."""

    path: Path
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableFile:
    """A file that is or may be a CT slice and cannot be used.

    Attributes
    ----------
    path, error : the file, and why it cannot be used
    series_key : of the series that it belongs to; None if that is unknown
    patient : identity within this survey only; never shown
    """

    path: Path
    error: InputError
    series_key: str | None = None
    patient: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CtSlice:
    """One CT image.

    Attributes
    ----------
    path : the file
    sop_class_uid, sop_instance_uid, transfer_syntax_uid : identity and encoding
    position_mm : Image Position (Patient), centre of the first pixel, LPS mm
    position_ds : the same as the verbatim strings of the file
    orientation : Image Orientation (Patient): unit vectors of row and column direction, LPS
    frame : number of the frame in a multi-frame file, from 1; None in a single-frame file
    instance : Instance Number, or None
    slope, intercept : HU = stored value x slope + intercept
    signed, bits_stored : how a stored value is read from its 16-bit word
    padding, padding_limit : Pixel Padding Value and Range Limit as in the file: values outside the image
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    position_mm: Vector
    position_ds: tuple[str, str, str]
    orientation: Orientation
    slope: float
    intercept: float
    signed: bool
    bits_stored: int
    padding: int | None = None
    padding_limit: int | None = None
    frame: int | None = None
    instance: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSlice:
    """A slice with the attributes that all slices of a volume must share.

    Attributes
    ----------
    image : the slice itself
    patient : identity within this survey only; never shown
    study_uid, series_uid, frame_uid : Study and Series Instance UID, Frame of Reference UID
    rows, columns, pixel_spacing_mm : size and (row spacing, column spacing)
    patient_position : such as ``HFS``, or empty
    tilt_deg : Gantry/Detector Tilt of the header in degrees
    uids_from_meta : whether the SOP UIDs are those of the file meta information
    discriminators : non-empty values of `DISCRIMINATING_ATTRIBUTES`, by keyword
    thickness_mm : Slice Thickness; None if it is absent or no positive number
    """

    image: CtSlice
    patient: str
    study_uid: str
    series_uid: str
    frame_uid: str
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    patient_position: str
    tilt_deg: float
    uids_from_meta: bool
    discriminators: Mapping[str, str] = field(default_factory=dict)
    thickness_mm: float | None = None

    @property
    def series_key(self) -> str:
        """Key of the series: its UID, or the frame of reference if it has no UID."""
        return self.series_uid or f"{NO_UID}{self.frame_uid}"


ClassifiedFile = PlacedSlice | UnusableFile | SetAside


def classify_file(path: Path) -> tuple[ClassifiedFile, ...]:
    """Read the header of one file and classify it.

    Returns
    -------
    one result, or for Enhanced CT one slice for each frame that is no localizer
    """
    try:
        dataset, has_pixels = open_header(path)
    except InputError as error:
        claims = error.detail or path.suffix.lower() in {".dcm", ".dicom", ".ima"}
        if isinstance(error, NotDicom) and not claims:
            return (SetAside(path=path, reason=Reason.NOT_DICOM),)
        return (UnusableFile(path=path, error=error),)
    if (reason := _aside(dataset)) is not None:
        return (SetAside(path=path, reason=reason),)
    try:
        _refuse_unusable(dataset, has_pixels=has_pixels)
        if _uid(dataset, "SOPClassUID") not in _MULTIFRAME_CT:
            return (_placed(path, dataset),)
        return _frames(path, dataset)
    except InputError as error:
        key = _series_key(text(dataset, "SeriesInstanceUID"), text(dataset, "FrameOfReferenceUID"))
        return (UnusableFile(path=path, error=error, series_key=key, patient=_patient(dataset)),)


def _frames(path: Path, dataset: FileDataset) -> tuple[ClassifiedFile, ...]:
    shown = [
        _placed(path, header, number)
        for number, header in frame_headers(dataset)
        if "LOCALIZER" not in _kinds(header)
    ]
    return tuple(shown) or (SetAside(path=path, reason=Reason.LOCALIZER),)


def _series_key(series_uid: str, frame_uid: str) -> str | None:
    return series_uid or (f"{NO_UID}{frame_uid}" if frame_uid else None)


def _aside(dataset: FileDataset) -> Reason | None:
    sop_class = _uid(dataset, "SOPClassUID")
    if sop_class == CTImageStorage:
        return Reason.LOCALIZER if "LOCALIZER" in _kinds(dataset) else None
    if sop_class in _MULTIFRAME_CT:
        return None
    if not sop_class:
        return Reason.OTHER_OBJECT
    name = uid_name(sop_class)
    if "Secondary Capture" in name:
        return Reason.CAPTURE
    is_image = "Image Storage" in name and "Rows" in dataset
    return Reason.OTHER_MODALITY if is_image else Reason.OTHER_OBJECT


def _kinds(dataset: Dataset) -> set[str]:
    return {value.upper() for value in texts(dataset, "ImageType")}


def _uid(dataset: FileDataset, keyword: str) -> str:
    """A SOP UID of the dataset, or if it is empty that of the file meta information (PS3.10, 7.1)."""
    return text(dataset, keyword) or text(dataset.file_meta, f"MediaStorage{keyword}")


def _patient(dataset: Dataset) -> str:
    return text(dataset, "PatientID") or text(dataset, "PatientName")


def _refuse_unusable(dataset: FileDataset, *, has_pixels: bool) -> None:
    if text(dataset, "Modality") != "CT":
        raise WrongModality
    is_multiframe = _uid(dataset, "SOPClassUID") in _MULTIFRAME_CT
    if not is_multiframe and (integer(dataset, "NumberOfFrames") or 1) > 1:
        raise MultiframeImage
    if not has_pixels:
        raise NoPixelData
    syntax = required_text(dataset.file_meta, "TransferSyntaxUID")
    if syntax in _LOSSY_SYNTAXES or text(dataset, "LossyImageCompression") == "01":
        raise LossyCompression
    if syntax not in SUPPORTED_SYNTAXES:
        raise UnsupportedSyntax(f"It is {uid_name(syntax) or 'none that DICOM defines'}.")
    _refuse_no_hu(dataset)


def _refuse_no_hu(dataset: FileDataset) -> None:
    if (
        text(dataset, "PhotometricInterpretation") != "MONOCHROME2"
        or integer(dataset, "SamplesPerPixel") != 1
    ):
        raise UnsupportedPixels("The Photometric Interpretation is not MONOCHROME2.")
    if "ModalityLUTSequence" in dataset:
        raise UnsupportedPixels("HU are given by a lookup table.")
    bits = integer(dataset, "BitsStored") or 0
    if (
        integer(dataset, "BitsAllocated") != 16
        or not 8 <= bits <= 16
        or integer(dataset, "HighBit") != bits - 1
    ):
        raise UnsupportedPixels("Bits Allocated, Bits Stored and High Bit do not fit together.")
    if integer(dataset, "PixelRepresentation") not in {0, 1}:
        raise MissingAttribute("Pixel Representation.")


def _placed(path: Path, dataset: FileDataset, frame: int | None = None) -> PlacedSlice:
    if text(dataset, "RescaleType").upper() not in {"", "HU"}:
        raise HuOutOfRange("Rescale Type is not HU.")
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    if not rows or not columns:
        raise MissingAttribute("Rows and Columns.")
    check_size(1, rows, columns)
    (row_mm, column_mm), _ = numbers(dataset, "PixelSpacing", 2)
    if not 0 < min(row_mm, column_mm) <= max(row_mm, column_mm) < _WIDEST_PIXEL_MM:
        raise InvalidAttribute("Pixel Spacing must be positive and below 1 m.")
    tilt = numbers(dataset, "GantryDetectorTilt", 1)[0][0] if text(dataset, "GantryDetectorTilt") else 0.0
    return PlacedSlice(
        image=_image(path, dataset, frame),
        patient=_patient(dataset),
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        frame_uid=required_text(dataset, "FrameOfReferenceUID"),
        rows=rows,
        columns=columns,
        pixel_spacing_mm=(row_mm, column_mm),
        patient_position=text(dataset, "PatientPosition"),
        tilt_deg=tilt,
        uids_from_meta=not (text(dataset, "SOPInstanceUID") and text(dataset, "SOPClassUID")),
        discriminators={
            keyword: value
            for keyword in DISCRIMINATING_ATTRIBUTES
            if (value := "\\".join(texts(dataset, keyword)))
        },
        thickness_mm=slice_thickness(dataset),
    )


def _orientation(dataset: Dataset) -> Orientation:
    (a, b, c, d, e, f), _ = numbers(dataset, "ImageOrientationPatient", 6)
    row, column = np.array([a, b, c]), np.array([d, e, f])
    errors = (row @ row - 1, column @ column - 1, row @ column)
    if max(abs(error) for error in errors) > _UNIT_TOLERANCE:
        raise InvalidAttribute("Image Orientation (Patient) is not two perpendicular unit vectors.")
    return a, b, c, d, e, f


def _image(path: Path, dataset: FileDataset, frame: int | None) -> CtSlice:
    (x, y, z), (x_ds, y_ds, z_ds) = numbers(dataset, "ImagePositionPatient", 3)
    (slope,), _ = numbers(dataset, "RescaleSlope", 1)
    (intercept,), _ = numbers(dataset, "RescaleIntercept", 1)
    if max(abs(x), abs(y), abs(z)) > _FARTHEST_MM:
        raise InvalidAttribute("Image Position (Patient) is implausibly large.")
    if slope <= 0:
        raise InvalidAttribute("Rescale Slope must be positive.")
    if max(slope, abs(intercept)) > _LARGEST_RESCALE:
        raise HuOutOfRange("Rescale Slope or Rescale Intercept is implausibly large.")
    sop_class, sop_instance = _uid(dataset, "SOPClassUID"), _uid(dataset, "SOPInstanceUID")
    if not sop_instance:
        raise MissingAttribute("SOP Instance UID.")
    return CtSlice(
        path=path,
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        position_mm=(x, y, z),
        position_ds=(x_ds, y_ds, z_ds),
        orientation=_orientation(dataset),
        frame=frame,
        instance=_number(dataset, "InstanceNumber"),
        slope=slope,
        intercept=intercept,
        signed=integer(dataset, "PixelRepresentation") == 1,
        bits_stored=integer(dataset, "BitsStored") or 16,
        padding=integer(dataset, "PixelPaddingValue"),
        padding_limit=integer(dataset, "PixelPaddingRangeLimit"),
    )


def _number(dataset: Dataset, keyword: str) -> int | None:
    """An integer for information only; None if it cannot be read."""
    try:
        return integer(dataset, keyword)
    except InvalidAttribute:
        return None
