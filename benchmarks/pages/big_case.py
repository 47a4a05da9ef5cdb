"""A contoured case of the size of a whole-body scan, for measuring the viewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from orgseg_node.core.organs import load_organs
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.shipped import shipped_config

ORGANS = 24
_AIR, _WATER = 24, 1024


def make_ct(folder: Path, slices: int, size: int) -> Path:
    """A CT with a noisy body, as headers of a scanner have it.

    Parameters
    ----------
    folder : new folder for the files
    slices : number of slices
    size : rows and columns
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    noise = random.normal(0, 20, (4, size, size))
    y, x = np.mgrid[-1 : 1 : 1j * size, -1 : 1 : 1j * size]
    body = (x / 0.8) ** 2 + (y / 0.55) ** 2 < 1
    study, series, frame = (generate_uid() for _ in range(3))
    for k in range(slices):
        pixels = np.where(body, _WATER + 40 * np.sin(8 * x + k / 9) * np.cos(7 * y), _AIR) + noise[k % 4]
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.Modality, ds.PatientName, ds.PatientID, ds.PatientPosition = "CT", "Big^Case", "BIG", "HFS"
        ds.ImageType, ds.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], k + 1
        ds.KVP, ds.SliceThickness = 120, 2
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-250, -250, 2.0 * k], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = [500 / size] * 2
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
        ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = size, size, 16, 12, 11
        ds.PixelData = np.clip(pixels, 0, 4095).astype(np.uint16).tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)
    return folder


def organs_of(series: CtSeries) -> LabelMap:
    """So many eggs in the body, each over a third of the slices."""
    shape = series.geometry.shape
    labels: NDArray[np.uint8] = np.zeros(shape, dtype=np.uint8)
    k, j, i = (np.linspace(0, 1, n) for n in shape)
    for number in range(ORGANS):
        column, row = number % 6, number // 6
        middle = (0.2 + 0.6 * (number % 5) / 4, 0.32 + 0.12 * row, 0.2 + 0.12 * column)
        far = (
            (((k - middle[0]) / 0.17) ** 2)[:, None, None]
            + (((j - middle[1]) / 0.055) ** 2)[:, None]
            + ((i - middle[2]) / 0.055) ** 2
        )
        labels[far < 1] = number + 1
    table = load_organs(shipped_config("organs.toml"))
    keys = sorted(table)[:ORGANS]
    return LabelMap(
        grid=series.geometry, labels=labels, organs={n + 1: table[key] for n, key in enumerate(keys)}
    )
