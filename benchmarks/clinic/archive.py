"""A clinic's archive of DICOM CT and RTSTRUCT from patients in the layout of OpenKBP.

``python -m benchmarks.clinic.archive DATA OUT --patients 24 --habit`` writes OUT/PATnnn/CT/*.dcm and
OUT/PATnnn/RS.dcm. Four dosimetrists name the ROIs, each in another way; planning volumes lie between them.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import contourpy
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage

from benchmarks.clinic.habits import FINE, canal_slice, with_habit
from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import HuArray
from orgseg_node.dicom.objects.uids import derive_uid
from orgseg_training.datasets.nifti import read_labels, read_volume
from orgseg_training.datasets.openkbp import LABELS, Case, read_cases

NAMES: Final = (
    {
        "brainstem": "Brainstem", "spinal_cord": "SpinalCord", "parotid_right": "Parotid_R",
        "parotid_left": "Parotid_L", "esophagus": "Esophagus", "larynx": "Larynx",
        "mandible": "Bone_Mandible",
    },
    {
        "brainstem": "Brain Stem", "spinal_cord": "Spinal Cord", "parotid_right": "rt parotid",
        "parotid_left": "lt parotid", "esophagus": "Oesophagus", "larynx": "larynx", "mandible": "Mandible",
    },
    {
        "brainstem": "Hirnstamm", "spinal_cord": "Myelon", "parotid_right": "PAROTIS RE",
        "parotid_left": "PAROTIS LI", "esophagus": "Ösophagus", "larynx": "Larynx", "mandible": "Unterkiefer",
    },
    {
        "brainstem": "BrainStem", "spinal_cord": "Cord", "parotid_right": "R Parotid",
        "parotid_left": "L Parotid", "esophagus": "Esoph", "larynx": "Larynx", "mandible": "Mandibula",
    },
)  # fmt: skip
"""ROI names of each dosimetrist."""

_INTERCEPT: Final = -1024
_LEAST_POINTS: Final = 4
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOptions:
    """How the archive is written.

    Attributes
    ----------
    habit : whether the contours follow the habits of `benchmarks.clinic.habits`
    organs : that are drawn; all if empty
    first : number of the first patient
    """

    habit: bool = False
    organs: frozenset[str] = frozenset()
    first: int = 1


def choose_patients(folder: Path, organs: Collection[str], *, locked: bool | None = None) -> list[Case]:
    """The patients of a data set in whom all of these organs were drawn.

    Parameters
    ----------
    folder : in the layout of OpenKBP
    organs : keys of the organ table
    locked : only test patients of the challenge, or only others; None for both
    """
    return [
        case
        for case in read_cases(folder)
        if set(organs) <= case.drawn and (locked is None or case.locked == locked)
    ]


def write_archive(cases: Sequence[Case], out: Path, options: ArchiveOptions) -> None:
    """Write one folder for each patient.

    Parameters
    ----------
    cases : the patients
    out : folder of the archive
    options : habit, organs and numbers
    """
    for number, case in enumerate(cases, options.first):
        _write_patient(case, out / f"PAT{number:03d}", number, options)


def _write_patient(case: Case, folder: Path, number: int, options: ArchiveOptions) -> None:
    volume = read_volume(case.image)
    labels = read_labels(case.labels)
    drawn = case.drawn & options.organs if options.organs else case.drawn
    masks = {organ: labels == LABELS[organ] for organ in sorted(drawn)}
    (folder / "CT").mkdir(parents=True)
    for k in range(volume.grid.shape[0]):
        image = _ct_image(case, volume.hu, volume.grid, k, number)
        image.save_as(folder / "CT" / f"CT{k + 1:03d}.dcm", enforce_file_format=True)
    if options.habit:
        masks = with_habit(masks, volume.hu, volume.grid)
    structures = _structure_set(case, volume.grid, number)
    names = NAMES[number % len(NAMES)]
    for organ, mask in masks.items():
        canal = options.habit and organ == "spinal_cord"
        _add_roi(structures, names[organ], case, mask, volume.grid, canal=canal)
    _add_roi(structures, "BODY", case, volume.hu > -300, volume.grid, kind="EXTERNAL")
    if "mandible" in masks:
        _add_roi(structures, "PTV 50", case, masks["mandible"], volume.grid, kind="PTV")
    structures.save_as(folder / "RS.dcm", enforce_file_format=True)


def _common(case: Case, number: int, modality: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientID = f"Clinic^Patient {number:03d}", f"H{1000 + number}"
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyInstanceUID = derive_uid("clinic", case.name, "study")
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260105", "080000", str(number)
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.FrameOfReferenceUID = derive_uid("clinic", case.name, "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.Modality = modality
    dataset.Manufacturer = "Synthetic clinic"
    dataset.SeriesInstanceUID = derive_uid("clinic", case.name, modality)
    dataset.SeriesNumber = 1
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _image_uid(case: Case, k: int) -> str:
    return derive_uid("clinic", case.name, "image", str(k + 1))


def _ct_image(case: Case, hu: HuArray, grid: Grid, k: int, number: int) -> Dataset:
    dataset = _common(case, number, "CT")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = _image_uid(case, k)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber, dataset.AcquisitionNumber, dataset.KVP = k + 1, None, None
    dataset.PatientPosition = "HFS"
    dz, dy, dx = grid.spacing_mm
    x, y, z = grid.origin_mm
    dataset.PixelSpacing, dataset.SliceThickness = [round(dy, 6), round(dx, 6)], round(dz, 6)
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [round(x, 3), round(y, 3), round(z + k * dz, 3)]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = grid.shape[1:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = _INTERCEPT, 1, "HU"
    stored = np.clip(hu[k].astype(np.int32) - _INTERCEPT, 0, None).astype("<u2")
    dataset.PixelData = np.ascontiguousarray(stored).tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _structure_set(case: Case, grid: Grid, number: int) -> Dataset:
    dataset = _common(case, number, "RTSTRUCT")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    uid = derive_uid("clinic", case.name, "structures")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.StructureSetLabel = "CLINIC"
    dataset.StructureSetDate, dataset.StructureSetTime = "20260106", "090000"
    dataset.ApprovalStatus = "APPROVED"
    dataset.ReviewDate, dataset.ReviewTime, dataset.ReviewerName = "20260106", "100000", "Oncologist"
    images = []
    for k in range(grid.shape[0]):
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CTImageStorage, _image_uid(case, k)
        images.append(image)
    series = Dataset()
    series.SeriesInstanceUID, series.ContourImageSequence = derive_uid("clinic", case.name, "CT"), images
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = dataset.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = dataset.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    dataset.RTROIObservationsSequence = []
    return dataset


def _add_roi(  # noqa: PLR0913  # what an ROI is made of
    dataset: Dataset,
    name: str,
    case: Case,
    mask: Mask,
    grid: Grid,
    *,
    kind: str = "ORGAN",
    canal: bool = False,
) -> None:
    number = len(dataset.StructureSetROISequence) + 1
    roi = Dataset()
    roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
    roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
    dataset.StructureSetROISequence.append(roi)
    contours = Dataset()
    contours.ReferencedROINumber, contours.ROIDisplayColor = number, [255, 0, 0]
    contours.ContourSequence = [
        _contour(points, _image_uid(case, k))
        for k in np.flatnonzero(mask.any(axis=(1, 2))).tolist()
        for points in (
            _outlines(canal_slice(mask[k], grid), grid, k, FINE)
            if canal
            else _outlines(mask[k].astype(np.float32), grid, k)
        )
    ]
    dataset.ROIContourSequence.append(contours)
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.RTROIInterpretedType, observation.ROIInterpreter = kind, ""
    dataset.RTROIObservationsSequence.append(observation)


def _outlines(field: NDArray[np.float32], grid: Grid, k: int, fine: int = 1) -> list[NDArray[np.float64]]:
    """(N, 3) points in mm of every closed outline of a slice with ``fine`` points for each voxel."""
    _, dy, dx = grid.spacing_mm
    x0, y0, z0 = grid.origin_mm
    generator = contourpy.contour_generator(z=np.pad(field, 1))
    outlines = []
    for line in generator.lines(0.5):
        points = np.asarray(line)[:-1]
        if len(points) >= _LEAST_POINTS:
            columns = (points[:, 0] - 1 + 0.5) / fine - 0.5
            rows = (points[:, 1] - 1 + 0.5) / fine - 0.5
            z = np.full(len(points), z0 + k * grid.spacing_mm[0])
            outlines.append(np.stack([x0 + columns * dx, y0 + rows * dy, z], axis=1))
    return outlines


def _contour(points: NDArray[np.float64], image_uid: str) -> Dataset:
    item = Dataset()
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points)
    item.ContourData = [f"{value:.3f}" for value in points.ravel()]
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CTImageStorage, image_uid
    item.ContourImageSequence = [image]
    return item


def main() -> None:
    """Write an archive as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder in the layout of OpenKBP")
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--skip", type=int, default=0, help="patients that are left out at the start")
    parser.add_argument("--first", type=int, default=1, help="number of the first patient")
    parser.add_argument("--with", dest="organs", default="", help="organs that must be drawn, with commas")
    parser.add_argument("--locked", action="store_true", help="only test patients of the challenge")
    parser.add_argument("--habit", action="store_true")
    given = parser.parse_args()
    organs = [organ for organ in given.organs.split(",") if organ]
    cases = choose_patients(given.data, organs, locked=given.locked or None)[
        given.skip : given.skip + given.patients
    ]
    write_archive(cases, given.out, ArchiveOptions(habit=given.habit, first=given.first))
    print(f"{len(cases)} patients in {given.out}")


if __name__ == "__main__":
    main()
