"""Folders of DICOM: CT series, and the RTSTRUCT that belongs to each of them, wherever it is stored.

Scans and patients are named by hashes of their UIDs and IDs: no file name identifies a patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from orgseg_node.core.organs import load_organs
from orgseg_node.dicom.patient_age import age_years
from orgseg_node.dicom.reading.files import whole_text
from orgseg_node.dicom.reading.series import CtSeries, Inventory, files_in
from orgseg_node.errors import InputError, SeveralParts
from orgseg_node.shipped import shipped_config
from orgseg_training.datasets.adapter_base import rejected_case
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.ct_survey import survey_each
from orgseg_training.datasets.description import DataSet, with_pairs
from orgseg_training.datasets.organ_names import OrganNames, organ_names
from orgseg_training.datasets.roi_masks import ChosenRois, choose_rois, none_usable, read_contents
from orgseg_training.datasets.structure_sets import Link, StructureSet, find_structure_sets, links_of
from orgseg_training.errors import CaseRejected, scan_error

_PBKDF2_ROUNDS: Final = 20_000  # a hospital has few IDs: hashing all of them must be slow


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Settings:
    """What is the same for all scans of a data set."""

    database: str
    names: OrganNames
    automatic: bool


def source_cases(
    database: str,
    folder: Path,
    data_set: DataSet,
    *,
    rois: Mapping[str, tuple[str, ...]],
    automatic: bool = False,
) -> tuple[SourceCase, ...]:
    """All CT series. An ROI with contours was drawn; of an organ without, nothing is known.

    Rejected with the reason are a CT without RTSTRUCT, with several RTSTRUCTs of which not exactly one is
    approved, or with an RTSTRUCT of another patient, an RTSTRUCT without its CT, and whatever cannot be read.

    Parameters
    ----------
    database : name of the data set in the experiment
    folder : searched with all its subfolders
    data_set : names of organs
    rois : additional names used by the site, by organ
    automatic : whether contours that a program made and nobody approved count as drawn

    Raises
    ------
    InputError
        If the folder has neither CT nor RTSTRUCT.
    """
    inventory, unread = survey_each(files_in(folder))
    found, damaged = find_structure_sets(inventory)
    if not inventory.accepted and not inventory.refused and not found and not unread:
        raise InputError(f"{folder.name} holds no CT series and no RTSTRUCT.")
    settings = _Settings(
        database=database,
        names=organ_names(data_set, load_organs(shipped_config("organs.toml")), rois),
        automatic=automatic,
    )
    links, alone = links_of(found, inventory.accepted)
    places: dict[str, list[int]] = {}
    for n, one in enumerate(inventory.accepted):
        places.setdefault(one.series_instance_uid, []).append(n)
    cases = [
        _case(settings, [(inventory.accepted[n], links.get(n, [])) for n in parts])
        for parts in places.values()
    ]
    cases += _unmatched(database, folder, inventory, alone)
    cases += [rejected_case(database, f"file-{_place(folder, path)}", error) for path, error in damaged]
    cases += [rejected_case(database, f"file-{_place(folder, path)}", error) for path, error in unread]
    return tuple(sorted(cases, key=lambda case: case.name))


def _case(settings: _Settings, parts: Sequence[tuple[CtSeries, list[Link]]]) -> SourceCase:
    """The scan of one series; rejected with its reason for whatever is wrong with it."""
    name = _short(parts[0][0].series_instance_uid)
    try:
        series, links = _drawn_part(parts)
        link = _chosen(links, automatic=settings.automatic)
        _require_same_patient(series, link)
        chosen = choose_rois(link, series, settings.names, automatic=settings.automatic)
        _require_organs(chosen)
    except Exception as error:  # noqa: BLE001  # one odd scan must not end the others
        return rejected_case(settings.database, name, scan_error(error))
    return SourceCase(
        database=settings.database,
        name=name,
        patient=_patient(series),
        annotated=with_pairs(frozenset(chosen.rois)),
        read=partial(read_contents, f"{settings.database}__{name}", series, link.structures.path, chosen),
        age_years=age_years(series.header) or None,  # 000Y: removed
        unused=(*chosen.unused, *(f"{organ}: {why}" for organ, why in sorted(chosen.left_out.items()))),
    )


def _require_organs(chosen: ChosenRois) -> None:
    if not chosen.rois and chosen.left_out:
        raise CaseRejected(none_usable(chosen.left_out))
    if not chosen.rois:
        listed = ", ".join(chosen.unused) or "there is none with contours"
        raise CaseRejected(f"None of its ROIs means an organ: {listed}.")


def _drawn_part(parts: Sequence[tuple[CtSeries, list[Link]]]) -> tuple[CtSeries, list[Link]]:
    """The part of a series on which contours were drawn, and its structure sets."""
    if len(parts) == 1:
        return parts[0]
    drawn = [
        (series, by_images)
        for series, links in parts
        if (by_images := [one for one in links if one.by_images])
    ]
    if len(drawn) != 1:
        raise SeveralParts(f"There are {len(parts)}, and contours do not name the one they belong to.")
    return drawn[0]


def _chosen(links: Sequence[Link], *, automatic: bool) -> Link:
    if not links:
        raise CaseRejected("No RTSTRUCT refers to this CT.")
    trusted = [one for one in links if automatic or not one.structures.automatic]
    if not trusted:
        raise CaseRejected(
            "A program made its RTSTRUCT and nobody approved it; with automatic = true it is used."
        )
    if len(trusted) == 1:
        (link,) = trusted
    else:
        approved = [one for one in trusted if one.structures.approved]
        if len(approved) != 1:
            raise CaseRejected(
                f"{len(trusted)} RTSTRUCTs refer to this CT, and {len(approved)} of them are approved."
            )
        (link,) = approved
    if link.rivals:
        raise CaseRejected(
            f"Its RTSTRUCT may belong to {link.rivals + 1} CTs, and its contours do not say to which."
        )
    return link


def _require_same_patient(series: CtSeries, link: Link) -> None:
    """Refuse another Patient ID; a missing one only if the contours do not refer to the images."""
    ids = {whole_text(series.header, "PatientID"), link.structures.patient}
    if len(ids) > 1 and not (link.by_images and "" in ids):
        raise CaseRejected("The RTSTRUCT that refers to this CT is of another patient.")


def _unmatched(
    database: str, folder: Path, inventory: Inventory, alone: Iterable[StructureSet]
) -> Iterator[SourceCase]:
    for refusal in inventory.refused:
        uid = refusal.series_instance_uid
        name = _short(uid) if uid else f"file-{_place(folder, refusal.paths[0])}"
        yield rejected_case(database, name, refusal.error)
    refused_series = {refusal.series_instance_uid for refusal in inventory.refused}
    for one in alone:
        if not one.listed & refused_series:
            error = CaseRejected("The CT that this RTSTRUCT refers to is not here.")
            yield rejected_case(database, f"file-{_place(folder, one.path)}", error)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _place(folder: Path, path: Path) -> str:
    return _short(path.relative_to(folder).as_posix() if path != folder else path.name)


def _patient(series: CtSeries) -> str:
    """Number of the patient; each study without an ID counts as another patient."""
    patient = whole_text(series.header, "PatientID")
    if not patient:
        return _short(series.study_instance_uid)
    return hashlib.pbkdf2_hmac("sha256", patient.encode(), b"orgseg patient", _PBKDF2_ROUNDS).hex()[:16]
