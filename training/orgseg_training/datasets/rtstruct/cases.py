"""The scans of DICOM folders: CT series, and the RTSTRUCT that belongs to each of them.

Scans and patients are named by hashes of their UIDs and IDs: no file name identifies a patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.patient_age import age_years
from orgseg_node.dicom.reading.files import whole_text
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_training.datasets.adapter_base import rejected_case
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.description import with_pairs
from orgseg_training.datasets.organ_names import RoiNames
from orgseg_training.datasets.rtstruct.archive import (
    Archive,
    choose_structure_set,
    drawn_part,
    require_same_patient,
    short_hash,
)
from orgseg_training.datasets.rtstruct.roi_masks import ChosenRois, choose_rois, none_usable, read_contents
from orgseg_training.datasets.rtstruct.structure_sets import Link
from orgseg_training.errors import CaseRejected, scan_error

_PBKDF2_ROUNDS: Final = 20_000  # a hospital has few IDs: hashing all of them must be slow
_METHOD: Final = 2  # raise it if scans that were stored before must be stored again


def slow_hash(patient_id: str) -> str:
    """Number of a patient: a slow hash of the ID, without a secret."""
    return hashlib.pbkdf2_hmac("sha256", patient_id.encode(), b"orgseg patient", _PBKDF2_ROUNDS).hex()[:16]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArchiveRules:
    """How the scans of a clinic's archive are read.

    Attributes
    ----------
    database : name of the data set in the experiment
    names : the organ of an ROI name
    organs : the organ table
    automatic : whether contours that a program made and nobody approved count as drawn
    label : regular expression for the Structure Set Labels that are preferred; empty for none
    hash_patient : makes the number of a patient from a Patient ID
    """

    database: str
    names: RoiNames
    organs: OrganTable
    automatic: bool = False
    label: str = ""
    hash_patient: Callable[[str], str] = slow_hash


def archive_cases(archive: Archive, rules: ArchiveRules) -> tuple[SourceCase, ...]:
    """All CT series by name. An ROI with contours was drawn; of an organ without, nothing is known.

    Rejected with the reason are a CT without RTSTRUCT, or with an RTSTRUCT of another patient, an RTSTRUCT
    without its CT, and whatever cannot be read. Of several RTSTRUCTs of a CT see `choose_structure_set`.
    """
    cases = [_case(archive, rules, parts) for parts in archive.scans()]
    cases += [
        replace(rejected_case(rules.database, name, error), patient_id=archive.patient_id_of(path))
        for name, path, error in archive.unmatched()
    ]
    return tuple(sorted(cases, key=lambda case: case.name))


def _case(archive: Archive, rules: ArchiveRules, parts: Sequence[tuple[CtSeries, list[Link]]]) -> SourceCase:
    """The scan of one series; rejected with its reason for whatever is wrong with it."""
    name = short_hash(parts[0][0].series_instance_uid)
    patient_id = whole_text(parts[0][0].header, "PatientID")
    try:
        series, links = drawn_part(parts)
        link, finding = choose_structure_set(
            links, archive.planned, automatic=rules.automatic, label=rules.label
        )
        require_same_patient(series, link)
        chosen = choose_rois(link, series, rules.names, automatic=rules.automatic)
        if finding:
            chosen = replace(chosen, findings=(finding, *chosen.findings))
        _require_organs(chosen)
    except Exception as error:  # noqa: BLE001  # one odd scan must not end the others
        return replace(rejected_case(rules.database, name, scan_error(error)), patient_id=patient_id)
    key = f"{rules.database}__{name}"
    return SourceCase(
        database=rules.database,
        name=name,
        patient=rules.hash_patient(patient_id) if patient_id else short_hash(series.study_instance_uid),
        annotated=with_pairs(frozenset(chosen.rois)),
        read=partial(read_contents, key, series, link.structures.path, chosen, rules.organs),
        age_years=age_years(series.header) or None,  # 000Y: removed
        unused=(*chosen.unused, *(f"{organ}: {why}" for organ, why in sorted(chosen.left_out.items()))),
        patient_id=patient_id,
        sex=_sex(series),
        scanner=" ".join(
            filter(
                None, (whole_text(series.header, name) for name in ("Manufacturer", "ManufacturerModelName"))
            )
        ),
        source_hash=partial(_source_hash, series, link, chosen, rules),
    )


def _sex(series: CtSeries) -> str:
    found = whole_text(series.header, "PatientSex").strip().upper()
    return found if found in {"F", "M", "O"} else ""


def _source_hash(series: CtSeries, link: Link, chosen: ChosenRois, rules: ArchiveRules) -> str:
    """Hash of RTSTRUCT, CT and of what the names mean; of a file that cannot be read, of its name."""
    summed = hashlib.sha256(f"{_METHOD}".encode())
    for organ in sorted({*chosen.rois, *chosen.left_out}):
        row = rules.organs[organ]
        meant = (organ, chosen.rois.get(organ), chosen.left_out.get(organ), row.length_mm, row.open_end)
        summed.update(repr(meant).encode())
    for path in (link.structures.path, *sorted({image.path for image in series.slices})):
        try:
            with path.open("rb") as file:
                summed.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            summed.update(path.name.encode())
    return summed.hexdigest()


def _require_organs(chosen: ChosenRois) -> None:
    if not chosen.rois and chosen.left_out:
        raise CaseRejected(none_usable(chosen.left_out))
    if not chosen.rois:
        listed = ", ".join(chosen.unused) or "there is none with contours"
        raise CaseRejected(f"None of its ROIs means an organ: {listed}.")
