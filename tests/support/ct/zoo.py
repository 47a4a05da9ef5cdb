"""Writes the awkward CT series a hospital sends, and keeps what is true of them.

The HU of every pixel are a smooth function of its place in the patient (`Field`), so a pixel read to a wrong
place shows as a wrong number, and the number says by how many millimetres. Everything true is taken from the
numbers as they stand in the file, after rounding to DICOM's decimal strings.

    scan = Scan(heights_mm=regular(24, 3.0), shear=(0.0, math.tan(math.radians(15))))
    stack = write(folder, scan)                         # one file per slice; what is true of them
    stack = write(folder, scan, change=spoil)           # spoil(k, dataset) edits; False drops the slice
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from tests.support.ct.phantom import save, uid

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Key = tuple[str, int | None]
"""What names an image: SOP Instance UID, and the number of the frame in a file that holds several."""
Change = Callable[[int, Dataset], object]

Orientation = tuple[float, float, float, float, float, float]
HFS: Orientation = (1, 0, 0, 0, 1, 0)
HFP: Orientation = (-1, 0, 0, 0, -1, 0)
HFDL: Orientation = (0, -1, 0, 1, 0, 0)
HFDR: Orientation = (0, 1, 0, -1, 0, 0)
FFS: Orientation = (-1, 0, 0, 0, 1, 0)
FFP: Orientation = (1, 0, 0, 0, -1, 0)
FFDL: Orientation = (0, -1, 0, -1, 0, 0)
FFDR: Orientation = (0, 1, 0, 1, 0, 0)
CORONAL: Orientation = (1, 0, 0, 0, 0, -1)

LOWEST_HU = -1024.0
PADDED_BEYOND_MM = 60.0  # radius around z outside of which a scan with padding shows nothing
_METAL_MM, _METAL_HU, _METAL_RADIUS_MM = (20.0, 10.0, 3.0), 7200.0, 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """HU as a function of place.

    Attributes
    ----------
    breath_mm : how far the patient has moved along z; phases of a 4DCT differ in it
    still_above_mm : height z above which nothing moves
    metal : whether a prosthesis of 8000 HU is in the picture
    padded : whether the scanner shows nothing far from the z axis
    """

    breath_mm: float = 0.0
    still_above_mm: float = math.inf
    metal: bool = False
    padded: bool = False

    def hu(self, points_mm: Floats) -> Floats:
        """HU at points (..., 3) in LPS mm; the padding is not in it."""
        x, y = points_mm[..., 0], points_mm[..., 1]
        z = points_mm[..., 2]
        z = z + self.breath_mm * np.clip((self.still_above_mm - z) / 10, 0, 1)
        hu: Floats = 800 + 9 * x + 7 * y + 12 * z
        hu = hu + 60 * np.sin(x / 10 + z / 14) + 50 * np.cos(y / 12 - z / 16)
        if self.metal:
            squared = ((points_mm - np.asarray(_METAL_MM)) ** 2).sum(axis=-1)
            hu = hu + _METAL_HU * np.exp(-squared / (2 * _METAL_RADIUS_MM**2))
        return hu

    def slope(self, points_mm: Floats) -> Floats:
        """Steepness of the field in HU per mm at points (..., 3)."""
        step = 1e-3
        parts = [
            (self.hu(points_mm + step * axis) - self.hu(points_mm - step * axis)) / (2 * step)
            for axis in np.eye(3)
        ]
        slope: Floats = np.sqrt(np.sum(np.square(parts), axis=0))
        return slope

    def is_padding(self, points_mm: Floats, near_mm: float = 0.0) -> Mask:
        """Whether points lie where nothing is shown, or nearer than ``near_mm`` to it."""
        if not self.padded:
            return np.zeros(points_mm.shape[:-1], dtype=np.bool_)
        radius = np.hypot(points_mm[..., 0], points_mm[..., 1])
        return np.asarray(radius > PADDED_BEYOND_MM - near_mm, dtype=np.bool_)


def organ(points_mm: Floats) -> Mask:
    """Whether points (..., 3) in LPS mm lie in the zoo's organ: a leaning egg with a channel, and a ball."""
    x, y, z = np.moveaxis(points_mm, -1, 0)
    egg = ((x - 7.3 - 0.31 * z) / 33.1) ** 2 + ((y + 5.2) / 22.7) ** 2 + ((z - 1.1) / 23.9) ** 2 <= 1
    channel = np.hypot(x - 12.4, y + 7.9) <= 6.7
    ball = (x + 38.6) ** 2 + (y - 27.3) ** 2 + (z + 9.7) ** 2 <= 9.3**2
    return np.asarray((egg & ~channel) | ball, dtype=np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plane:
    """One image as it truly is.

    Attributes
    ----------
    keys : the images that show it, several where a slice was sent twice
    position_mm : centre of the first pixel, LPS
    row, column : unit vectors along a row and along a column, LPS
    spacing_mm : (row spacing, column spacing)
    hu : (J, I) what must be read
    """

    keys: frozenset[Key]
    position_mm: Floats
    row: Floats
    column: Floats
    spacing_mm: tuple[float, float]
    hu: Floats

    @property
    def points_mm(self) -> Floats:
        """(J, I, 3) centres of the pixels in LPS mm (PS3.3, C.7.6.2.1.1)."""
        j, i = (np.arange(n, dtype=np.float64)[..., None] for n in self.hu.shape)
        height, width = self.spacing_mm
        points: Floats = (
            self.position_mm + (j * height * self.column)[:, None] + (i * width * self.row)[None, :]
        )
        return points


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stack:
    """What is true of one series, or of one phase of it.

    Attributes
    ----------
    planes : the images in any order
    field : what they show, None where that is no function (a real patient)
    quantum_hu : the step in which HU are stored
    patient_name : Patient's Name as it is in the file, in bytes
    organ_mm : where the zoo's organ is drawn, LPS
    """

    planes: tuple[Plane, ...]
    field: Field | None
    quantum_hu: float = 1.0
    patient_name: bytes = b"Zoo^Animal"
    organ_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def organ(self, points_mm: Floats) -> Mask:
        """Whether points (..., 3) in LPS mm lie in the organ that is drawn on the stack."""
        return organ(points_mm - np.asarray(self.organ_mm))

    def plane(self, key: Key) -> Plane | None:
        """The plane an image shows."""
        return next((plane for plane in self.planes if key in plane.keys), None)

    def also(self, twin: Stack) -> Stack:
        """The same planes, shown by the images of another stack too."""
        planes = zip(self.planes, twin.planes, strict=True)
        return replace(self, planes=tuple(replace(a, keys=a.keys | b.keys) for a, b in planes))

    def without(self, *dropped: int) -> Stack:
        """All but some of the planes."""
        return replace(self, planes=tuple(p for k, p in enumerate(self.planes) if k not in dropped))


def regular(count: int, step_mm: float = 3.0) -> tuple[float, ...]:
    """Places of slices at one distance, around 0."""
    return tuple((k - (count - 1) / 2) * step_mm for k in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """How a series is scanned and stored.

    Attributes
    ----------
    heights_mm : places of the slices along the normal
    rows, columns, spacing_mm : size of a slice; (row spacing, column spacing)
    orientation : Image Orientation (Patient)
    orientations : of single slices that differ
    shear : sideways shift of a slice per mm of height along (row, column), as with a tilted gantry
    shifts_mm : further shift (row, column, normal) of each slice
    signed, bits_stored, intercept, slope : how HU are stored
    slopes : slope and intercept of single slices that differ
    shows : what is scanned
    padding, padding_limit : stored value or range of values where nothing is shown
    syntax : transfer syntax
    series, study, frame : seeds of the UIDs
    number : Series Number, which also keeps file names apart
    values : further attributes by keyword, of all slices; None deletes
    """

    heights_mm: Sequence[float] = regular(20)
    rows: int = 64
    columns: int = 64
    spacing_mm: tuple[float, float] = (2.0, 2.0)
    orientation: Orientation = HFS
    orientations: Mapping[int, Orientation] = field(default_factory=dict)
    shear: tuple[float, float] = (0.0, 0.0)
    shifts_mm: Mapping[int, tuple[float, float, float]] = field(default_factory=dict)
    signed: bool = False
    bits_stored: int = 16
    slope: float = 1.0
    intercept: float = -1024.0
    slopes: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    shows: Field = Field()
    padding: int | None = None
    padding_limit: int | None = None
    syntax: str = ExplicitVRLittleEndian
    study: str = "study"
    series: str = "series"
    frame: str = "frame"
    number: int = 2
    values: Mapping[str, Any] = field(default_factory=dict)


def write(folder: Path, scan: Scan, change: Change | None = None) -> Stack:
    """Write a series, one file per slice; the planes that were written, in order of their heights."""
    folder.mkdir(parents=True, exist_ok=True)
    planes = []
    for k, (dataset, plane) in enumerate(images(scan)):
        if change is not None and change(k, dataset) is False:
            continue
        save(dataset, folder / file_name(dataset), scan.syntax)
        planes.append(plane)
    return Stack(planes=tuple(planes), field=scan.shows, quantum_hu=quantum(scan))


def quantum(scan: Scan) -> float:
    """The largest step in which HU are stored."""
    return max([scan.slope, *(slope for slope, _ in scan.slopes.values())])


def file_name(dataset: Dataset) -> str:
    """A name as archives give it: it says nothing about the order of the slices."""
    name = hashlib.sha256(str(dataset.SOPInstanceUID).encode()).hexdigest()[:10]
    return f"CT.{dataset.get('SeriesNumber', 0)}.{name}.dcm"


def images(scan: Scan) -> list[tuple[Dataset, Plane]]:
    """One uncompressed dataset per slice, and what is true of it."""
    return [_image(scan, k) for k in range(len(scan.heights_mm))]


def decimal(value: float) -> DSfloat:
    """A number as a Decimal String of at most 16 characters."""
    return DSfloat(float(value), auto_format=True)


def _vectors(scan: Scan, k: int) -> tuple[Floats, Floats]:
    orientation = scan.orientations.get(k, scan.orientation)
    stored = np.array([float(str(decimal(v))) for v in orientation])
    # a pixel's width is that of Pixel Spacing: what rounding made of the vectors' length does not count
    row, column = (vector / np.linalg.norm(vector) for vector in (stored[:3], stored[3:]))
    return row, column


def _position(scan: Scan, k: int) -> Floats:
    """Centre of the first pixel, as the file's decimal strings say it."""
    row, column = (np.asarray(v, dtype=np.float64) for v in (scan.orientation[:3], scan.orientation[3:]))
    height = scan.heights_mm[k]
    shift = scan.shifts_mm.get(k, (0.0, 0.0, 0.0))
    along_row = scan.shear[0] * height + shift[0] - (scan.columns - 1) / 2 * scan.spacing_mm[1]
    along_column = scan.shear[1] * height + shift[1] - (scan.rows - 1) / 2 * scan.spacing_mm[0]
    position = along_row * row + along_column * column + (height + shift[2]) * np.cross(row, column)
    return np.array([float(str(decimal(round(v, 6)))) for v in position])


def _image(scan: Scan, k: int) -> tuple[Dataset, Plane]:
    row, column = _vectors(scan, k)
    slope, intercept = scan.slopes.get(k, (scan.slope, scan.intercept))
    empty = Plane(
        keys=frozenset(),
        position_mm=_position(scan, k),
        row=row,
        column=column,
        spacing_mm=(float(str(decimal(scan.spacing_mm[0]))), float(str(decimal(scan.spacing_mm[1])))),
        hu=np.empty((scan.rows, scan.columns)),
    )
    stored, hu = _stored(scan, empty.points_mm, slope, intercept)
    dataset = _dataset(scan, k, empty)
    dataset.RescaleSlope, dataset.RescaleIntercept = decimal(slope), decimal(intercept)
    mask = (1 << scan.bits_stored) - 1
    words = stored & (mask if scan.padding is None else 0xFFFF)
    dataset.add_new("PixelData", "OW", words.astype("<u2").tobytes())
    for keyword, value in scan.values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset, replace(empty, keys=frozenset({(str(dataset.SOPInstanceUID), None)}), hu=hu)


def _stored(
    scan: Scan, points_mm: Floats, slope: float, intercept: float
) -> tuple[NDArray[np.int64], Floats]:
    """Stored values, and the HU that must be read from them."""
    low = -(1 << (scan.bits_stored - 1)) if scan.signed else 0
    high = low + (1 << scan.bits_stored) - 1
    stored = np.rint((scan.shows.hu(points_mm) - intercept) / slope).astype(np.int64)
    stored = np.clip(stored, low, high)
    outside = scan.shows.is_padding(points_mm)
    padding = scan.padding if scan.padding is not None else low
    hu = np.maximum(stored * slope + intercept, LOWEST_HU)
    stored[outside], hu[outside] = padding, LOWEST_HU
    if scan.padding_limit is not None:  # a checkerboard of both ends and what lies between them
        j, i = np.nonzero(outside)
        values = np.linspace(padding, scan.padding_limit, 3).astype(np.int64)
        stored[j, i] = values[(j + i) % 3]
    return stored, hu


def _dataset(scan: Scan, k: int, plane: Plane) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    gaps = np.abs(np.diff(scan.heights_mm)) if len(scan.heights_mm) > 1 else np.ones(1)
    values: dict[str, Any] = _identity(scan, k) | {
        "SliceThickness": decimal(float(np.median(gaps))),
        "ImagePositionPatient": [decimal(v) for v in plane.position_mm],
        "ImageOrientationPatient": [decimal(v) for v in scan.orientations.get(k, scan.orientation)],
        "PixelSpacing": [decimal(v) for v in plane.spacing_mm],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": scan.rows,
        "Columns": scan.columns,
        "BitsAllocated": 16,
        "BitsStored": scan.bits_stored,
        "HighBit": scan.bits_stored - 1,
        "PixelRepresentation": int(scan.signed),
        "RescaleType": "HU",
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    for keyword, number in (
        ("PixelPaddingValue", scan.padding),
        ("PixelPaddingRangeLimit", scan.padding_limit),
    ):
        if number is not None:
            dataset.add_new(keyword, "SS" if scan.signed else "US", number)
    return dataset


def _identity(scan: Scan, k: int) -> dict[str, Any]:
    return {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": uid("zoo", scan.study, scan.series, "slice", k),
        "StudyDate": "20240102",
        "SeriesDate": "20240102",
        "AcquisitionDate": "20240102",
        "ContentDate": "20240102",
        "StudyTime": "101500",
        "SeriesTime": "101600",
        "AcquisitionTime": "101650",
        "ContentTime": "101700",
        "AccessionNumber": "",
        "Modality": "CT",
        "Manufacturer": "Zoo",
        "ReferringPhysicianName": "",
        "SeriesDescription": f"Zoo {scan.number}",
        "PatientName": "Zoo^Animal",
        "PatientID": "ZOO-1",
        "PatientBirthDate": "19500101",
        "PatientSex": "O",
        "PatientPosition": "HFS",
        "PositionReferenceIndicator": "",
        "KVP": "120",
        "StudyInstanceUID": uid("zoo", scan.study),
        "SeriesInstanceUID": uid("zoo", scan.study, scan.series),
        "FrameOfReferenceUID": uid("zoo", scan.study, scan.frame),
        "StudyID": "1",
        "SeriesNumber": scan.number,
        "AcquisitionNumber": 1,
        "InstanceNumber": k + 1,
    }


def turned(orientation: Orientation, degrees: float, axis: Sequence[float]) -> Orientation:
    """An orientation turned about an axis through the patient, LPS."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    angle = math.radians(degrees)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    a, b, c = (float(v) for v in rotation @ orientation[:3])
    d, e, f = (float(v) for v in rotation @ orientation[3:])
    return a, b, c, d, e, f
