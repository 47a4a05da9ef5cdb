"""A synthetic patient on a synthetic scanner, written as honest CT DICOM files.

The patient is a function of the place in LPS millimetres (`hu_at`, `organ_at`), so that the same patient
is seen from every orientation, and a voxel that ends up in the wrong place shows. By default 24 slices of
64 x 64 pixels: 256 x 256 x 72 mm around the origin. Headers carry every type 1 and type 2 attribute of the
CT Image IOD (PS3.3 A.3), so that objects made from them have no excuse.

    build_ct_series(folder)                               the clean default
    build_ct_series(folder, PhantomOptions(slices=40))    another scanner or patient
    build_ct_series(folder, change=spoil)                 spoil(index, dataset) edits; False drops the slice
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from pydicom.valuerep import DSfloat

from orgseg_node.core.geometry import Grid, Vector
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
FEET_FIRST = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # FFS: columns run to the patient's right, slices to the feet
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # HFP

_NATIVE = {
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
}
_PYDICOM = {RLELossless, JPEGLSLossless}  # encoded by pydicom; the other compressed syntaxes by GDCM

Change = Callable[[int, Dataset], object]
"""Called for each slice with its index and dataset before it is encoded; ``False`` leaves the slice out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomOptions:
    """What is scanned, and how.

    Attributes
    ----------
    slices, rows, columns : size
    pixel_spacing_mm : (row spacing, column spacing), as in the tag
    slice_spacing_mm, slice_thickness_mm : distance of slices, and thickness (the distance when None)
    centre_mm : LPS centre of the scanned block
    orientation : Image Orientation (Patient): row direction, column direction
    positions_mm : places of the slices along the normal, relative to the centre; regular when None
    shear : lateral shift along the column direction per mm along the normal (a tilted gantry), as a tangent
    transfer_syntax : syntax of the files; any lossless one of DICOM
    signed, bits_stored, slope, intercept : how HU are stored
    padding : Pixel Padding Value (stored value) outside the circular field of view, none when None
    noise_hu : standard deviation of Gaussian noise, seeded by `seed`
    couch : whether a couch lies below the patient
    study, series, frame : seeds of the UIDs; equal seeds give equal UIDs
    attributes : further attributes by keyword, put last: ``{"PatientName": "..."}``; None deletes
    """

    slices: int = 24
    rows: int = 64
    columns: int = 64
    pixel_spacing_mm: tuple[float, float] = (4.0, 4.0)
    slice_spacing_mm: float = 3.0
    slice_thickness_mm: float | None = None
    centre_mm: Vector = (0.0, 0.0, 0.0)
    orientation: tuple[float, float, float, float, float, float] = AXIAL
    positions_mm: Sequence[float] | None = None
    shear: float = 0.0
    patient_position: str = "HFS"
    transfer_syntax: str = ExplicitVRLittleEndian
    signed: bool = False
    bits_stored: int = 16
    slope: float = 1.0
    intercept: float = -1024.0
    padding: int | None = None
    noise_hu: float = 0.0
    seed: int = 0
    couch: bool = True
    patient_name: str = "Phantom^Ellipse"
    patient_id: str = "PHANTOM-1"
    character_set: str | None = "ISO_IR 192"
    study: str = "study"
    series: str = "series"
    frame: str = "frame"
    attributes: Mapping[str, Any] = field(default_factory=dict)


_TISSUE = {  # organ key: HU, centre mm, semi-axes mm; LPS, relative to the origin
    "brainstem": (40.0, (0.0, 10.0, 20.0), (14.0, 12.0, 12.0)),
    "parotid_left": (5.0, (58.0, 0.0, 0.0), (14.0, 18.0, 20.0)),
    "parotid_right": (5.0, (-58.0, 0.0, 0.0), (14.0, 18.0, 20.0)),
    "mandible": (900.0, (0.0, -42.0, -10.0), (26.0, 9.0, 9.0)),
}
_BODY_MM = (92.0, 70.0)
_CORD_MM = (0.0, 40.0, 7.0, 14.0)  # x, y, radius of the cord, radius of the vertebra around it
LABELS = {1: "brainstem", 2: "spinal_cord", 3: "parotid_left", 4: "parotid_right", 5: "mandible"}


def uid(*parts: object) -> str:
    """A UID that depends only on the parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def normal_of(options: PhantomOptions) -> NDArray[np.float64]:
    """Unit vector along which the slices are stacked, LPS."""
    return np.cross(options.orientation[:3], options.orientation[3:])


def grid_of(options: PhantomOptions) -> Grid:
    """Where the voxels truly are (for a regular, untilted phantom), ``k`` along the normal."""
    row, column, normal = (
        np.asarray(options.orientation[:3]),
        np.asarray(options.orientation[3:]),
        normal_of(options),
    )
    x, y, z = _position(options, _offsets(options)[0])
    return Grid(
        shape=(options.slices, options.rows, options.columns),
        spacing_mm=(options.slice_spacing_mm, *options.pixel_spacing_mm),
        origin_mm=(float(x), float(y), float(z)),
        axes=(_vector(normal), _vector(column), _vector(row)),
    )


def hu_at(points_mm: NDArray[np.float64], *, couch: bool = True) -> NDArray[np.float64]:
    """HU of the patient at points (..., 3) in LPS mm."""
    x, y = points_mm[..., 0], points_mm[..., 1]
    hu = np.full(points_mm.shape[:-1], -1000.0)
    if couch:
        hu[(np.abs(x) < 110) & (y > 84) & (y < 92)] = -300.0
    hu[body_at(points_mm)] = 30.0
    hu[np.hypot(x - _CORD_MM[0], y - _CORD_MM[1]) <= _CORD_MM[3]] = 600.0
    organs = organ_at(points_mm)
    for label, key in LABELS.items():
        hu[organs == label] = 35.0 if key == "spinal_cord" else _TISSUE[key][0]
    return hu


def body_at(points_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points (..., 3) in LPS mm are inside the patient: an elliptic cylinder along z."""
    inside: NDArray[np.bool_] = (points_mm[..., 0] / _BODY_MM[0]) ** 2 + (
        points_mm[..., 1] / _BODY_MM[1]
    ) ** 2 <= 1
    return inside


def organ_at(points_mm: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Organ number (`LABELS`) at points (..., 3) in LPS mm."""
    labels = np.zeros(points_mm.shape[:-1], dtype=np.uint8)
    radius = np.hypot(points_mm[..., 0] - _CORD_MM[0], points_mm[..., 1] - _CORD_MM[1])
    labels[radius <= _CORD_MM[2]] = 2
    for label, key in LABELS.items():
        if key in _TISSUE:
            _, centre, axes = _TISSUE[key]
            labels[(((points_mm - np.asarray(centre)) / np.asarray(axes)) ** 2).sum(axis=-1) <= 1] = label
    return labels


def grid_points(grid: Grid) -> NDArray[np.float64]:
    """(K, J, I, 3) centres of all voxels in LPS mm."""
    return grid.to_lps(np.indices(grid.shape).reshape(3, -1).T).reshape(*grid.shape, 3)


def label_map_of(grid: Grid, table: OrganTable) -> LabelMap:
    """The phantom's true organs on a grid."""
    organs = {label: table[key] for label, key in LABELS.items()}
    return LabelMap(grid=grid, labels=organ_at(grid_points(grid)), organs=organs)


def build_ct_series(
    folder: Path, options: PhantomOptions | None = None, change: Change | None = None
) -> list[Path]:
    """Write one CT series; the files in order along the normal, numbered from 0."""
    options = options or PhantomOptions()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, dataset in enumerate(ct_datasets(options)):
        if change is not None and change(k, dataset) is False:
            continue
        paths.append(save(dataset, folder / f"slice_{k:03d}.dcm", options.transfer_syntax))
    return paths


def ct_datasets(options: PhantomOptions) -> list[Dataset]:
    """One uncompressed dataset per slice, in order along the normal."""
    random = np.random.default_rng(options.seed)
    datasets = []
    for k, offset in enumerate(_offsets(options)):
        position = _position(options, offset)
        hu = hu_at(_pixel_points(options, position), couch=options.couch)
        hu += random.normal(0.0, options.noise_hu, hu.shape) if options.noise_hu else 0.0
        datasets.append(_dataset(options, k, position, hu))
    return datasets


def save(dataset: Dataset, path: Path, transfer_syntax: str = ExplicitVRLittleEndian) -> Path:
    """Encode and write a dataset as a DICOM part 10 file."""
    if transfer_syntax in _NATIVE:
        dataset.file_meta.TransferSyntaxUID = transfer_syntax
        if transfer_syntax == ExplicitVRBigEndian and "PixelData" in dataset:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    elif transfer_syntax in _PYDICOM:
        dataset.compress(transfer_syntax, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    if transfer_syntax not in _NATIVE | _PYDICOM:
        _transcode(path, transfer_syntax)
        if "PerFrameFunctionalGroupsSequence" in dataset:
            # GDCM puts the frames where it thinks they should be: only its pixels are taken
            dataset.file_meta.TransferSyntaxUID = transfer_syntax
            dataset.add_new("PixelData", "OB", dcmread(path).PixelData)
            dataset["PixelData"].is_undefined_length = True
            dataset.save_as(path, enforce_file_format=True)
    return path


def _transcode(path: Path, transfer_syntax: str) -> None:
    import gdcm  # noqa: PLC0415  # imported before zlib, its own zlib breaks deflate in this process

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(transfer_syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _offsets(options: PhantomOptions) -> list[float]:
    if options.positions_mm is not None:
        return list(options.positions_mm)
    return [(k - (options.slices - 1) / 2) * options.slice_spacing_mm for k in range(options.slices)]


def _position(options: PhantomOptions, offset: float) -> NDArray[np.float64]:
    """Centre of the first pixel of a slice, LPS mm."""
    row, column = np.asarray(options.orientation[:3]), np.asarray(options.orientation[3:])
    middle = np.asarray(options.centre_mm) + offset * (normal_of(options) + options.shear * column)
    half_row = (options.columns - 1) / 2 * options.pixel_spacing_mm[1]
    half_column = (options.rows - 1) / 2 * options.pixel_spacing_mm[0]
    position: NDArray[np.float64] = middle - half_row * row - half_column * column
    return position


def _pixel_points(options: PhantomOptions, position: NDArray[np.float64]) -> NDArray[np.float64]:
    row, column = np.asarray(options.orientation[:3]), np.asarray(options.orientation[3:])
    j = np.arange(options.rows)[:, None, None] * options.pixel_spacing_mm[0]
    i = np.arange(options.columns)[None, :, None] * options.pixel_spacing_mm[1]
    points: NDArray[np.float64] = position + i * row + j * column
    return points


def _stored(options: PhantomOptions, hu: NDArray[np.float64]) -> NDArray[np.generic]:
    low = -(1 << (options.bits_stored - 1)) if options.signed else 0
    high = low + (1 << options.bits_stored) - 1
    stored = np.clip(np.rint((hu - options.intercept) / options.slope), low, high)
    if options.padding is not None:
        j, i = np.indices(hu.shape)
        centre = (np.asarray(hu.shape) - 1) / 2
        stored[np.hypot(j - centre[0], i - centre[1]) > min(hu.shape) / 2] = options.padding
    return stored.astype("<i2" if options.signed else "<u2")


def _ds(values: Sequence[float]) -> list[DSfloat]:
    return [DSfloat(float(v), auto_format=True) for v in values]


def _dataset(
    options: PhantomOptions, k: int, position: NDArray[np.float64], hu: NDArray[np.float64]
) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if options.character_set is not None:
        dataset.SpecificCharacterSet = options.character_set
    thickness = options.slice_thickness_mm or options.slice_spacing_mm
    values: dict[str, Any] = _identity(options, k) | {
        "PositionReferenceIndicator": "",
        "PatientPosition": options.patient_position,
        "SliceThickness": _ds([thickness])[0],
        "ImagePositionPatient": _ds(position.tolist()),
        "ImageOrientationPatient": _ds(options.orientation),
        "PixelSpacing": _ds(options.pixel_spacing_mm),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": options.rows,
        "Columns": options.columns,
        "BitsAllocated": 16,
        "BitsStored": options.bits_stored,
        "HighBit": options.bits_stored - 1,
        "PixelRepresentation": int(options.signed),
        "RescaleIntercept": _ds([options.intercept])[0],
        "RescaleSlope": _ds([options.slope])[0],
        "RescaleType": "HU",
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    if options.padding is not None:
        dataset.add_new("PixelPaddingValue", "SS" if options.signed else "US", options.padding)
    mask = (1 << options.bits_stored) - 1
    dataset.add_new("PixelData", "OW", (_stored(options, hu).astype("<i4") & mask).astype("<u2").tobytes())
    for keyword, value in options.attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _identity(options: PhantomOptions, k: int) -> dict[str, Any]:
    return {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": uid(options.study, options.series, "slice", k),
        "StudyDate": "20240102",
        "SeriesDate": "20240102",
        "ContentDate": "20240102",
        "StudyTime": "101500",
        "SeriesTime": "101600",
        "ContentTime": "101700",
        "AccessionNumber": "",
        "Modality": "CT",
        "BodyPartExamined": "HEADNECK",
        "Manufacturer": "Phantom Works",
        "ManufacturerModelName": "Ellipse 1",
        "ReferringPhysicianName": "",
        "StudyDescription": "Phantom",
        "SeriesDescription": "Phantom CT",
        "PatientName": options.patient_name,
        "PatientID": options.patient_id,
        "PatientBirthDate": "19500101",
        "PatientSex": "O",
        "KVP": "120",
        "StudyInstanceUID": uid(options.study),
        "SeriesInstanceUID": uid(options.study, options.series),
        "FrameOfReferenceUID": uid(options.study, options.frame),
        "StudyID": "1",
        "SeriesNumber": 2,
        "AcquisitionNumber": 1,
        "InstanceNumber": k + 1,
    }
