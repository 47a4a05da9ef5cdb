"""The CT of the commissioning kit: water in air, with slightly denser structures that are visible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.object_header import file_meta
from orgseg_node.dicom.objects.provenance import MANUFACTURER
from orgseg_node.dicom.objects.uids import derive_uid

PATIENT_ID: Final = "ORGSEG-KIT"
DATE, TIME = "20240101", "120000"

_AIR_HU, _WATER_HU, _STRUCTURE_HU = -1000, 0, 60
_INTERCEPT = -1024
_BODY_MM = (110.0, 85.0)  # semi-axes of the water, across and front to back


def write_phantom(folder: Path, label_map: LabelMap) -> list[Path]:
    """Write the CT, one file for each slice, from feet to head; every run gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, dataset in enumerate(_slices(label_map)):
        path = folder / f"CT_{k + 1:03d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _slices(label_map: LabelMap) -> Iterator[FileDataset]:
    shared = _shared(label_map)
    x, y, z = label_map.grid.to_lps([(0, 0, 0)])[0].tolist()
    spacing_mm = float(np.diff(label_map.grid.heights_mm[:2])[0])
    for k, labels in enumerate(label_map.labels):
        sop_instance_uid = derive_uid("commissioning kit", "CT", str(k))
        meta = file_meta(CTImageStorage, sop_instance_uid, ExplicitVRLittleEndian)
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.update(shared)
        dataset.SOPInstanceUID = sop_instance_uid
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [x, y, z + k * spacing_mm]
        stored = _hu(labels, label_map) - _INTERCEPT
        dataset.add_new("PixelData", "OW", stored.astype("<u2").tobytes())
        yield dataset


def _hu(labels: NDArray[np.uint8], label_map: LabelMap) -> NDArray[np.int32]:
    rows, columns = labels.shape
    row_mm, column_mm = label_map.grid.pixel_spacing_mm
    y = (np.arange(rows)[:, None] - (rows - 1) / 2) * row_mm
    x = (np.arange(columns)[None, :] - (columns - 1) / 2) * column_mm
    hu = np.where((x / _BODY_MM[0]) ** 2 + (y / _BODY_MM[1]) ** 2 <= 1, _WATER_HU, _AIR_HU)
    hu[labels != 0] = _STRUCTURE_HU
    return hu.astype(np.int32)


def _shared(label_map: LabelMap) -> Dataset:
    """The type 1 and type 2 attributes of the CT Image IOD (PS3.3 A.3) that all slices share."""
    _, rows, columns = label_map.grid.shape
    thickness_mm = float(np.diff(label_map.grid.heights_mm[:2])[0])
    dataset = Dataset()
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": CTImageStorage,
        "StudyDate": DATE,
        "SeriesDate": DATE,
        "ContentDate": DATE,
        "StudyTime": TIME,
        "SeriesTime": TIME,
        "ContentTime": TIME,
        "AccessionNumber": "",
        "Modality": "CT",
        "BodyPartExamined": "WHOLEBODY",
        "Manufacturer": MANUFACTURER,
        "ReferringPhysicianName": "",
        "StudyDescription": "Commissioning kit",
        "SeriesDescription": "Phantom with known volumes",
        "PatientName": "Kit^Commissioning",
        "PatientID": PATIENT_ID,
        "PatientBirthDate": "",
        "PatientSex": "O",
        "SliceThickness": thickness_mm,
        "KVP": "120",
        "PatientPosition": "HFS",
        "StudyInstanceUID": derive_uid("commissioning kit", "study"),
        "SeriesInstanceUID": derive_uid("commissioning kit", "CT"),
        "StudyID": "KIT",
        "SeriesNumber": 1,
        "AcquisitionNumber": 1,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "FrameOfReferenceUID": derive_uid("commissioning kit", "frame of reference"),
        "PositionReferenceIndicator": "",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "PixelSpacing": list(label_map.grid.pixel_spacing_mm),
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "RescaleIntercept": _INTERCEPT,
        "RescaleSlope": 1,
        "RescaleType": "HU",
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset
