"""DICOM series for the benchmark of the judgement of scans: those of the data sets, and false headers."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import dcmread

from benchmarks.qa.patients import data_folder
from orgseg_node.core.volume import Volume
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import files_in, survey
from orgseg_node.errors import OrgsegError
from orgseg_training.datasets.nifti import read_volume as read_nifti

OTHER_REGIONS: Final = ("LUNG1-001", "CRLM-CT-1004", "dcm_qa_ct_ge_tilt")
HEAD_AND_NECK: Final = "pycerr_hn_pt1"
STATEMENTS: Final = tuple("".join(axes) for n in range(4) for axes in itertools.combinations("xyz", n))
"""Which axes a header states the wrong way: none, and the seven misstatements."""


def unpack(name: str, scratch: Path) -> Path:
    """The folder of a DICOM series of the data sets, unpacked.

    Parameters
    ----------
    name : of its folder
    scratch : where it is unpacked
    """
    folder = scratch / name
    if not folder.exists():
        with tarfile.open(data_folder() / "dicom" / name / "ct.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return folder


def other_regions(scratch: Path) -> Iterator[tuple[str, Volume | OrgsegError]]:
    """Every series of other regions and every phantom: the CT, or why it cannot be read.

    Parameters
    ----------
    scratch : where archives are unpacked
    """
    for name in OTHER_REGIONS:
        yield from _read(name, unpack(name, scratch))
    for folder in sorted((data_folder() / "dicom_small").iterdir()):
        yield from _read(folder.name, folder)
    for path in sorted((data_folder() / "totalsegmentator_example").glob("example_ct*.nii.gz")):
        yield path.name, read_nifti(path)


def _read(name: str, folder: Path) -> Iterator[tuple[str, Volume | OrgsegError]]:
    inventory = survey(files_in(folder))
    for number, series in enumerate(inventory.accepted, start=1):
        label = f"{name} {number}" if len(inventory.accepted) > 1 else name
        try:
            yield label, read_volume(series)
        except OrgsegError as error:
            yield label, error
    if not inventory.accepted and inventory.refused:
        yield name, inventory.refused[0].error


def misstate(source: Path, target: Path, axes: str) -> Path:
    """A copy of a series whose headers state some axes the wrong way; the pixels stay as they are.

    Parameters
    ----------
    source : folder of the series
    target : folder that is made
    axes : such as ``xz``: positions and directions along these axes change their sign

    Returns
    -------
    the new folder
    """
    signs = np.array([-1.0 if axis in axes else 1.0 for axis in "xyz"])
    target.mkdir(parents=True)
    for number, path in enumerate(sorted(files_in(source))):
        dataset = dcmread(path)
        place = np.array(dataset.ImagePositionPatient, dtype=float) * signs
        directions = np.array(dataset.ImageOrientationPatient, dtype=float) * np.tile(signs, 2)
        dataset.ImagePositionPatient = [round(float(value), 4) for value in place]
        dataset.ImageOrientationPatient = [round(float(value), 6) for value in directions]
        dataset.save_as(target / f"{number:04d}.dcm")
    return target
