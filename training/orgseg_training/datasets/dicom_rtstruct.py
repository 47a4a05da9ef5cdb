"""Folders of DICOM: CT series, and the RTSTRUCT that refers to each of them, wherever it is stored.

Scans and patients are named by hashes of their UIDs and IDs: no file name identifies a patient.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from orgseg_node.core.organs import load_organs
from orgseg_node.dicom.reading.files import open_header, texts
from orgseg_node.dicom.reading.series import CtSeries, Inventory, Reason, files_in, survey
from orgseg_node.errors import InputError, OrgsegError, SeveralParts
from orgseg_node.shipped import shipped_config
from orgseg_training.datasets.adapter_base import rejected_case
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.description import DataSet, with_pairs
from orgseg_training.datasets.organ_names import OrganNames, organ_names
from orgseg_training.datasets.roi_masks import drawn_rois, read_contents
from orgseg_training.errors import CaseRejected

_RTSTRUCT: Final = "1.2.840.10008.5.1.4.1.1.481.3"  # RT Structure Set Storage, PS3.4 B.5
_PBKDF2_ROUNDS: Final = 20_000  # a hospital has few IDs: hashing all of them must be slow


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Structures:
    """An RTSTRUCT and the CT series it refers to."""

    path: Path
    dataset: Dataset
    series: frozenset[str]

    @property
    def approved(self) -> bool:
        return texts(self.dataset, "ApprovalStatus") == ("APPROVED",)


def source_cases(
    database: str, folder: Path, data_set: DataSet, *, rois: Mapping[str, tuple[str, ...]]
) -> tuple[SourceCase, ...]:
    """All CT series. An ROI with contours was drawn; of an organ without, nothing is known.

    Rejected with the reason are a CT without RTSTRUCT, with several RTSTRUCTs of which not exactly one is
    approved, or with an RTSTRUCT of another patient, and an RTSTRUCT without its CT.

    Parameters
    ----------
    database : name of the data set in the experiment
    folder : searched with all its subfolders
    data_set : names of organs
    rois : additional names used by the site, by organ

    Raises
    ------
    InputError
        If the folder has neither CT nor RTSTRUCT.
    """
    inventory = survey(files_in(folder))
    found, damaged = _structure_sets(inventory)
    if not inventory.accepted and not inventory.refused and not found:
        raise InputError(f"{folder.name} holds no CT series and no RTSTRUCT.")
    names = organ_names(data_set, load_organs(shipped_config("organs.toml")), rois)
    series = defaultdict(list)
    for one in inventory.accepted:
        series[one.series_instance_uid].append(one)
    cases = [
        _case(database, parts, [s for s in found if uid in s.series], names) for uid, parts in series.items()
    ]
    cases += _unmatched(database, folder, inventory, [s for s in found if not s.series & series.keys()])
    cases += [rejected_case(database, f"file-{_place(folder, path)}", error) for path, error in damaged]
    return tuple(sorted(cases, key=lambda case: case.name))


def _structure_sets(inventory: Inventory) -> tuple[list[_Structures], list[tuple[Path, OrgsegError]]]:
    found: list[_Structures] = []
    damaged: list[tuple[Path, OrgsegError]] = []
    for item in inventory.aside:
        if item.reason is not Reason.OTHER_OBJECT:
            continue
        try:
            dataset, _ = open_header(item.path)
            if texts(dataset, "SOPClassUID") == (_RTSTRUCT,):
                series = frozenset(_referenced(dataset))
                found.append(_Structures(path=item.path, dataset=dataset, series=series))
        except InputError as error:
            damaged.append((item.path, error))
    return found, damaged


def _referenced(dataset: Dataset) -> Iterator[str]:
    """UIDs of the CT series a structure set refers to (PS3.3 C.8.8.5)."""
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            for series in study.get("RTReferencedSeriesSequence") or []:
                yield from texts(series, "SeriesInstanceUID")


def _case(database: str, parts: list[CtSeries], found: list[_Structures], names: OrganNames) -> SourceCase:
    series = parts[0]
    name = _short(series.series_instance_uid)
    try:
        if len(parts) > 1:
            raise SeveralParts(f"There are {len(parts)}, and contours do not name the one they belong to.")
        structures = _chosen(found)
        _require_same_patient(series, structures.dataset)
        rois, unused = drawn_rois(structures.dataset, names)
        if not rois:
            listed = ", ".join(unused) or "there is none with contours"
            raise CaseRejected(f"None of its ROIs means an organ: {listed}.")
    except OrgsegError as error:
        return rejected_case(database, name, error)
    return SourceCase(
        database=database,
        name=name,
        patient=_patient(series),
        annotated=with_pairs(frozenset(rois)),
        read=partial(read_contents, f"{database}__{name}", series, structures.path, rois),
        age_years=_age(series.header),
        unused=unused,
    )


def _chosen(found: list[_Structures]) -> _Structures:
    if not found:
        raise CaseRejected("No RTSTRUCT refers to this CT.")
    if len(found) == 1:
        return found[0]
    approved = [one for one in found if one.approved]
    if len(approved) != 1:
        raise CaseRejected(
            f"{len(found)} RTSTRUCTs refer to this CT, and {len(approved)} of them are approved."
        )
    return approved[0]


def _require_same_patient(series: CtSeries, dataset: Dataset) -> None:
    if texts(series.header, "PatientID") != texts(dataset, "PatientID"):
        raise CaseRejected("The RTSTRUCT that refers to this CT is of another patient.")


def _unmatched(
    database: str, folder: Path, inventory: Inventory, alone: Iterable[_Structures]
) -> Iterator[SourceCase]:
    for refusal in inventory.refused:
        uid = refusal.series_instance_uid
        name = _short(uid) if uid else f"file-{_place(folder, refusal.paths[0])}"
        yield rejected_case(database, name, refusal.error)
    refused_series = {refusal.series_instance_uid for refusal in inventory.refused}
    for one in alone:
        if not one.series & refused_series:
            error = CaseRejected("The CT that this RTSTRUCT refers to is not here.")
            yield rejected_case(database, f"file-{_place(folder, one.path)}", error)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _place(folder: Path, path: Path) -> str:
    return _short(path.relative_to(folder).as_posix() if path != folder else path.name)


def _patient(series: CtSeries) -> str:
    """Number of the patient; each study without an ID counts as another patient."""
    ids = texts(series.header, "PatientID")
    if not ids:
        return _short(series.study_instance_uid)
    return hashlib.pbkdf2_hmac("sha256", ids[0].encode(), b"orgseg patient", _PBKDF2_ROUNDS).hex()[:16]


def _age(header: Dataset) -> float | None:
    """Years from Patient's Age (0010,1010), such as ``007Y`` or ``018M``."""
    value = (texts(header, "PatientAge") or ("",))[0]
    units = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
    if value[-1:] not in units or not value[:-1].isdecimal() or int(value[:-1]) == 0:
        return None
    return int(value[:-1]) * units[value[-1]]
