"""The synthetic CT series and label map of `contours.py`: 20 organs of simple shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from orgseg_node.dicom.objects.uids import derive_uid

Labels = NDArray[np.uint8]

FIELD_MM = (500.0, 500.0, 500.0)  # (z, y, x) around the centre
BALLS = {  # organ: centre (z, y, x) and semi-axes in mm
    "brain": ((200, -10, 0), (45, 80, 70)),
    "eyeball_left": ((190, -120, 32), (12, 12, 12)),
    "eyeball_right": ((190, -120, -32), (4, 4, 4)),  # as small as a lens
    "brainstem": ((140, 10, 0), (14, 13, 15)),
    "parotid_left": ((120, 0, 60), (25, 18, 12)),
    "lung_left": ((20, -20, 80), (70, 70, 50)),
    "lung_right": ((20, -20, -80), (75, 75, 55)),
    "liver": ((-95, -20, -70), (42, 70, 65)),
    "spleen": ((-90, 40, 95), (35, 30, 20)),
    "kidney_left": ((-120, 70, 55), (22, 25, 25)),
    "urinary_bladder": ((-215, -20, 0), (25, 30, 35)),
    "femoral_head_right": ((-225, 10, -90), (22, 22, 22)),
}
TUBES = {  # organ: centre (y, x), outer and inner radius in mm, from and to z
    "aorta": ((45, 25), 14.0, 0.0, -180, 60),
    "spinal_cord": ((75, 0), 5.5, 0.0, -180, 120),
    "vertebrae": ((75, 0), 14.0, 7.0, -180, 120),  # a ring around the cord
    "esophagus": ((40, -5), 9.0, 5.0, -60, 100),
    "rectum": ((50, 0), 18.0, 12.0, -245, -190),
    "clavicle_left": ((0, 245), 25.0, 0.0, -60, 60),  # an arm at the border of the image
}
PLATES = {  # a thin Y; organ: centre (z, y, x), half its height, its radius, half its thickness in mm
    "adrenal_gland_left": ((-70, 60, 50), 15.0, 18.0, 2.0),
    "adrenal_gland_right": ((-75, 60, -50), 15.0, 18.0, 2.0),
}
NAMES = [*BALLS, *TUBES, *PLATES]


def organ_labels(shape: tuple[int, int, int]) -> Labels:
    """(K, J, I) uint8, the number of each organ in the order of `NAMES`, from 1; 0 for none."""
    labels = np.zeros(shape, dtype=np.uint8)
    axes = [((np.arange(n) + 0.5) / n - 0.5) * mm for n, mm in zip(shape, FIELD_MM, strict=True)]
    z, y, x = np.ix_(*axes)
    for label, name in enumerate(NAMES, start=1):
        if name in BALLS:
            centre, radii = BALLS[name]
            inside = sum(((v - c) / r) ** 2 for v, c, r in zip((z, y, x), centre, radii, strict=True)) <= 1
        elif name in TUBES:
            (cy, cx), outer, inner, low, high = TUBES[name]
            squared = (y - cy - 10 * np.sin(z / 60)) ** 2 + (x - cx) ** 2
            inside = (squared <= outer**2) & (squared >= inner**2) & (z >= low) & (z <= high)
        else:
            (cz, cy, cx), height, length, thickness = PLATES[name]
            across = np.minimum(np.abs(x - cx), np.abs(y - cy - 0.6 * np.abs(x - cx)))
            inside = (across <= thickness) & (np.abs(z - cz) <= height) & (np.hypot(y - cy, x - cx) <= length)
        labels[inside & (labels == 0)] = label
    return labels


def write_series(folder: Path, shape: tuple[int, int, int]) -> None:
    """Write a CT series of this shape (slices, rows, columns) into a folder."""
    dz, dy, dx = (mm / n for mm, n in zip(FIELD_MM, shape, strict=True))
    pixels = np.random.default_rng(0).integers(0, 2000, shape[1:], dtype=np.uint16).tobytes()
    for k in range(shape[0]):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        uid = derive_uid("benchmark", "slice", str(k))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
        dataset.StudyInstanceUID = derive_uid("benchmark", "study")
        dataset.SeriesInstanceUID = derive_uid("benchmark", "series")
        dataset.FrameOfReferenceUID = derive_uid("benchmark", "frame")
        dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Benchmark", "BENCH"
        dataset.PatientBirthDate = dataset.StudyDate = dataset.StudyTime = dataset.StudyID = ""
        dataset.PatientSex = dataset.AccessionNumber = ""
        dataset.SeriesDate = dataset.SeriesTime = dataset.StudyDescription = dataset.SeriesDescription = ""
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber, dataset.SeriesNumber = k + 1, 1
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-250 + dx / 2, -250 + dy / 2, round(-250 + dz * (k + 0.5), 4)]
        dataset.PixelSpacing, dataset.SliceThickness = [dy, dx], dz
        dataset.Rows, dataset.Columns = shape[1:]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
        dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
        dataset.add_new("PixelData", "OW", pixels)
        dataset.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)
