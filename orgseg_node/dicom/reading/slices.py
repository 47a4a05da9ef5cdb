"""Classifies one file: a CT slice, the slices of its frames, or the reason why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage

from orgseg_node.core.geometry import Vector
from orgseg_node.dicom.reading.files import (
    decimal_commas,
    integer,
    numbers,
    open_header,
    optional_integer,
    optional_number,
    required_text,
    slice_thickness,
    text,
    texts,
    valid_uid,
    whole_text,
    without_pydicom_warnings,
)
from orgseg_node.dicom.reading.image_kind import (
    MULTIFRAME_CT,
    Reason,
    kinds,
    reason_aside,
    refuse_unusable,
    sop_uid,
)
from orgseg_node.dicom.reading.limits import check_size
from orgseg_node.dicom.reading.multiframe import frame_headers
from orgseg_node.errors import (
    HuOutOfRange,
    InputError,
    InvalidAttribute,
    MissingAttribute,
    NotDicom,
)

_UNSPECIFIED = "US"  # Rescale Type (0028,1054)
_NOT_NEEDED = ("GantryDetectorTilt", "PixelPaddingValue", "PixelPaddingRangeLimit", "SliceThickness")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A file that is no CT slice, which is not an error.

    Attributes
    ----------
    path, reason : the file, and why it is none
    series_key : of the series that it states; None if it states none
    place : Image Orientation (Patient) and Image Position (Patient) in mm, if it is an image with both
    is_page : whether it is a page among CT images
    corners_mm : of a localizer, its first pixel and the pixels at the other ends of its first row and column
    """

    path: Path
    reason: Reason
    series_key: str | None = None
    place: tuple[Orientation, Vector] | None = None
    is_page: bool = False
    corners_mm: tuple[Vector, ...] = ()


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
    is_unspecified : whether Rescale Type is ``US``, unspecified, as GDCM and SimpleITK write it
    decimal_commas : names of attributes with decimal commas, or commas that may separate thousands
    unreadable : names of attributes that cannot be read and are not needed
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
    is_unspecified: bool = False
    decimal_commas: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

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
    with without_pydicom_warnings():
        return _classified(path)


def _classified(path: Path) -> tuple[ClassifiedFile, ...]:
    try:
        dataset, has_pixels = open_header(path)
    except InputError as error:
        claims = error.detail or path.suffix.lower() in {".dcm", ".dicom", ".ima"}
        if isinstance(error, NotDicom) and not claims:
            return (SetAside(path=path, reason=Reason.NOT_DICOM),)
        return (UnusableFile(path=path, error=error),)
    if (reason := reason_aside(dataset)) is not None:
        is_page = reason is Reason.CAPTURE and sop_uid(dataset, "SOPClassUID") == CTImageStorage
        key, place = _key_of(dataset), _place(dataset)
        corners = _corners(dataset, place) if reason is Reason.LOCALIZER else ()
        return (
            SetAside(
                path=path, reason=reason, series_key=key, place=place, is_page=is_page, corners_mm=corners
            ),
        )
    try:
        refuse_unusable(dataset, has_pixels=has_pixels)
        if sop_uid(dataset, "SOPClassUID") not in MULTIFRAME_CT:
            return (_placed(path, dataset),)
        return _frames(path, dataset)
    except InputError as error:
        return (UnusableFile(path=path, error=error, series_key=_key_of(dataset), patient=_patient(dataset)),)


def _frames(path: Path, dataset: FileDataset) -> tuple[ClassifiedFile, ...]:
    shown = [
        _placed(path, header, number)
        for number, header in frame_headers(dataset)
        if "LOCALIZER" not in kinds(header)
    ]
    return tuple(shown) or (SetAside(path=path, reason=Reason.LOCALIZER),)


def _place(dataset: Dataset) -> tuple[Orientation, Vector] | None:
    """Orientation and position in mm of an image that is no slice; None if it does not state them."""
    try:
        (x, y, z), _ = numbers(dataset, "ImagePositionPatient", 3)
        return _orientation(dataset), (x, y, z)
    except InputError:
        return None


def _corners(dataset: Dataset, place: tuple[Orientation, Vector] | None) -> tuple[Vector, ...]:
    """See `SetAside`; empty if the image does not state its place or its size."""
    try:
        (row_mm, column_mm), _ = numbers(dataset, "PixelSpacing", 2)
        rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    except InputError:
        return ()
    if place is None or not rows or not columns:
        return ()
    orientation, first = place
    across = np.array(orientation[:3]) * (columns - 1) * column_mm
    down = np.array(orientation[3:]) * (rows - 1) * row_mm
    ends = [(float(x), float(y), float(z)) for x, y, z in (first + across, first + down)]
    return (first, *ends)


def _key_of(dataset: Dataset) -> str | None:
    """Key of the series that a file belongs to; None if it states none."""
    series_uid = whole_text(dataset, "SeriesInstanceUID")
    frame_uid = whole_text(dataset, "FrameOfReferenceUID")
    return series_uid or (f"{NO_UID}{frame_uid}" if frame_uid else None)


def _patient(dataset: Dataset) -> str:
    return whole_text(dataset, "PatientID") or whole_text(dataset, "PatientName")


def _placed(path: Path, dataset: FileDataset, frame: int | None = None) -> PlacedSlice:
    rescale_type = text(dataset, "RescaleType").upper()
    # the frames of Enhanced CT with unspecified values are maps, such as those of perfusion
    if rescale_type not in ({"", "HU", _UNSPECIFIED} if frame is None else {"", "HU"}):
        raise HuOutOfRange("Rescale Type is not HU.")
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    if not rows or not columns:
        raise MissingAttribute("Rows and Columns.")
    check_size(1, rows, columns)
    (row_mm, column_mm), _ = numbers(dataset, "PixelSpacing", 2)
    if not 0 < min(row_mm, column_mm) <= max(row_mm, column_mm) < _WIDEST_PIXEL_MM:
        raise InvalidAttribute("Pixel Spacing must be positive and below 1 m.")
    return PlacedSlice(
        image=_image(path, dataset, frame),
        patient=_patient(dataset),
        study_uid=valid_uid("StudyInstanceUID", whole_text(dataset, "StudyInstanceUID")),
        series_uid=valid_uid("SeriesInstanceUID", whole_text(dataset, "SeriesInstanceUID")),
        frame_uid=valid_uid("FrameOfReferenceUID", required_text(dataset, "FrameOfReferenceUID")),
        rows=rows,
        columns=columns,
        pixel_spacing_mm=(row_mm, column_mm),
        patient_position=text(dataset, "PatientPosition"),
        tilt_deg=optional_number(dataset, "GantryDetectorTilt") or 0.0,
        uids_from_meta=not (text(dataset, "SOPInstanceUID") and text(dataset, "SOPClassUID")),
        discriminators={
            keyword: value
            for keyword in DISCRIMINATING_ATTRIBUTES
            if (value := "\\".join(texts(dataset, keyword)))
        },
        thickness_mm=slice_thickness(dataset),
        is_unspecified=rescale_type == _UNSPECIFIED,
        decimal_commas=decimal_commas(dataset),
        unreadable=tuple(
            dictionary_description(keyword) for keyword in _NOT_NEEDED if _is_unreadable(dataset, keyword)
        ),
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
    sop_class, sop_instance = sop_uid(dataset, "SOPClassUID"), sop_uid(dataset, "SOPInstanceUID")
    if not sop_instance:
        raise MissingAttribute("SOP Instance UID.")
    return CtSlice(
        path=path,
        sop_class_uid=sop_class,
        sop_instance_uid=valid_uid("SOPInstanceUID", sop_instance),
        transfer_syntax_uid=whole_text(dataset.file_meta, "TransferSyntaxUID"),
        position_mm=(x, y, z),
        position_ds=(x_ds, y_ds, z_ds),
        orientation=_orientation(dataset),
        frame=frame,
        instance=optional_integer(dataset, "InstanceNumber"),
        slope=slope,
        intercept=intercept,
        signed=integer(dataset, "PixelRepresentation") == 1,
        bits_stored=integer(dataset, "BitsStored") or 16,
        padding=_padding(dataset, "PixelPaddingValue"),
        padding_limit=_padding(dataset, "PixelPaddingRangeLimit"),
    )


def _padding(dataset: Dataset, keyword: str) -> int | None:
    """A padding value, also if it is repeated; None if it is absent or cannot be read."""
    value = optional_number(dataset, keyword)
    return int(value) if value is not None and value.is_integer() else None


def _is_unreadable(dataset: Dataset, keyword: str) -> bool:
    """Whether an attribute has a value that is no number."""
    if keyword not in dataset or optional_number(dataset, keyword) is not None:
        return False
    try:
        with without_pydicom_warnings():
            return dataset[keyword].VM > 0
    except Exception:  # noqa: BLE001  # pydicom raises many things for a value that cannot be decoded
        return True


def signed_or_not(value: int, image: CtSlice) -> int:
    """A padding value as the stored value of a pixel."""
    # the VR of the padding attributes follows Pixel Representation; some writers get it wrong
    word = value & 0xFFFF
    return word - 0x10000 if image.signed and word >= 0x8000 else word
