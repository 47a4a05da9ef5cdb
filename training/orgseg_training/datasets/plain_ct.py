"""CTs without contours, of which it is only known which organs they certainly do not show.

From a CT of the abdomen a network of the head learns that it has no parotid gland. Nothing is drawn in such a
scan, so of every organ that is not named as outside nothing is known.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial
from pathlib import Path

from orgseg_node.dicom.patient_age import age_years
from orgseg_node.dicom.reading.files import whole_text
from orgseg_node.dicom.reading.reader import read_volume as read_dicom
from orgseg_node.dicom.reading.series import CtSeries, files_in
from orgseg_node.errors import InputError
from orgseg_training.datasets.adapter_base import rejected_case
from orgseg_training.datasets.case import Contents, SourceCase
from orgseg_training.datasets.nifti import read_volume
from orgseg_training.datasets.rtstruct.archive import short_hash
from orgseg_training.datasets.rtstruct.cases import slow_hash
from orgseg_training.datasets.rtstruct.ct_survey import survey_each

_SUFFIXES = (".nii.gz", ".nii")


def source_cases(database: str, folder: Path) -> tuple[SourceCase, ...]:
    """Every NIfTI file and every DICOM CT series of a folder, also in subfolders, as a scan.

    Parameters
    ----------
    database : name of the data set in the experiment
    folder : where they are

    Raises
    ------
    InputError
        If there is no CT, or if two files would have the same name.
    """
    files = files_in(folder)
    images = [path for path in files if path.name.endswith(_SUFFIXES)]
    inventory, failed = survey_each([path for path in files if path not in set(images)])
    cases = [_of_nifti(database, folder, path) for path in images]
    counts = Counter(case.name for case in cases)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise InputError(
            f"{folder.name} has several files that would be called {', '.join(twice)}: rename them."
        )
    cases += [_of_series(database, series) for series in inventory.accepted]
    refused = [
        *(
            (short_hash(one.series_instance_uid), one.error)
            for one in inventory.refused
            if one.series_instance_uid
        ),
        *((short_hash(path.name), error) for path, error in failed),
    ]
    cases += [rejected_case(database, name, error) for name, error in refused]
    if not cases:
        raise InputError(f"{folder.name} has no CT: no NIfTI file and no DICOM series.")
    return tuple(sorted(cases, key=lambda case: case.name))


def _of_nifti(database: str, folder: Path, path: Path) -> SourceCase:
    name = path.relative_to(folder).as_posix()
    name = next(name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)).replace("/", "_")
    return SourceCase(
        database=database,
        name=name,
        patient=name,
        annotated=frozenset(),
        read=lambda: Contents(volume=read_volume(path), masks={}),
        source_hash=partial(_file_hash, path),
    )


def _of_series(database: str, series: CtSeries) -> SourceCase:
    patient_id = whole_text(series.header, "PatientID")
    return SourceCase(
        database=database,
        name=short_hash(series.series_instance_uid + series.part),
        patient=slow_hash(patient_id) if patient_id else short_hash(series.study_instance_uid),
        annotated=frozenset(),
        read=lambda: Contents(volume=read_dicom(series), masks={}),
        age_years=age_years(series.header) or None,  # 000Y: removed
        patient_id=patient_id,
        source_hash=lambda: series.content_sha256,
    )


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
