"""Finds the scans with clinical contours in a folder, and the reason why others cannot be used.

Each folder in it is looked at on its own, and so are the files that lie in none: a structure set belongs to a
CT of the same folder that it refers to. Scans are named by a hash of the series UID, as in a site's data set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import RTStructureSetStorage

from orgseg_node.dicom.objects.clinical_rtstruct import is_rejected
from orgseg_node.dicom.objects.structure_set_facts import (
    StructureSetFacts,
    read_structure_set,
    structure_set_facts,
)
from orgseg_node.dicom.reading.files import open_header, text, whole_text
from orgseg_node.dicom.reading.image_kind import Reason
from orgseg_node.dicom.reading.series import CtSeries, files_in, survey
from orgseg_node.errors import OptionInvalid
from orgseg_node.errors.unexpected import coded


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClinicalCase:
    """A CT and the structure set that was drawn on it.

    Attributes
    ----------
    name : hash of the series UID
    patient : Patient ID; the name if there is none
    folder : in which it was found
    series : the CT
    structures : file of the structure set
    approved : whether a person approved it
    """

    name: str
    patient: str
    folder: Path
    series: CtSeries
    structures: Path
    approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableScan:
    """A scan, a structure set or a file that cannot be used.

    Attributes
    ----------
    folder : in which it was found
    name : of the scan; empty if it is none
    why : a sentence
    """

    folder: Path
    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    """A structure set that was found."""

    path: Path
    facts: StructureSetFacts
    patient: str
    rejected: bool


def find_cases(root: Path) -> tuple[list[ClinicalCase], list[UnusableScan]]:
    """The scans with clinical contours in a folder, in order of their names, and what cannot be used.

    Parameters
    ----------
    root : searched with all its subfolders
    """
    cases: dict[str, ClinicalCase] = {}
    unusable: list[UnusableScan] = []
    for folder, paths in _groups(root):
        for found in _in_folder(folder, paths):
            if isinstance(found, UnusableScan):
                unusable.append(found)
            elif found.name in cases:
                why = "The same CT series is in another folder, too, which is used."
                unusable.append(UnusableScan(folder=folder, name=found.name, why=why))
            else:
                cases[found.name] = found
    return sorted(cases.values(), key=lambda case: case.name), unusable


def case_name(series_uid: str) -> str:
    """The name of a scan, which says nothing about a patient."""
    return hashlib.sha256(series_uid.encode()).hexdigest()[:16]


def locked_scans(lock: Path) -> frozenset[str]:
    """Names of the scans that a site's data set has locked for the test.

    Parameters
    ----------
    lock : the file ``lock.json`` of ``orgseg-train site lock``

    Raises
    ------
    OptionInvalid
        If it is none.
    """
    try:
        keys = json.loads(lock.read_bytes())["test"]
        return frozenset(str(key).rpartition("__")[2] for key in {**keys})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionInvalid(f"{lock.name} is no lock of a site's data set.") from error


def _groups(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder with all its files, and the files that lie in none."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    yield from ((folder, files_in(folder)) for folder in folders)
    loose = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    if loose:
        yield root, loose


def _in_folder(folder: Path, paths: Sequence[Path]) -> Iterator[ClinicalCase | UnusableScan]:
    try:
        inventory = survey(paths)
        drawn, unreadable = _structure_sets([one.path for one in inventory.aside if _may_be_one(one.reason)])
    except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to this folder
        yield UnusableScan(folder=folder, name="", why=coded(error).sentence)
        return
    for why in unreadable:
        yield UnusableScan(folder=folder, name="", why=why)
    for refusal in inventory.refused:
        name = case_name(refusal.series_instance_uid) if refusal.series_instance_uid else ""
        yield UnusableScan(folder=folder, name=name, why=f"{refusal.error.code}: {refusal.error.sentence}")
    used: set[Path] = set()
    for uid in dict.fromkeys(one.series_instance_uid for one in inventory.accepted):
        parts = [one for one in inventory.accepted if one.series_instance_uid == uid]
        outcome = _case(folder, parts, drawn, used)
        yield (
            outcome
            if isinstance(outcome, ClinicalCase)
            else UnusableScan(folder=folder, name=case_name(uid), why=outcome)
        )
    for one in drawn:
        if one.path not in used:
            why = "A structure set refers to no usable CT of its folder."
            yield UnusableScan(folder=folder, name="", why=why)
    if not inventory.accepted and not inventory.refused and not drawn and not unreadable:
        yield UnusableScan(folder=folder, name="", why="It has neither a CT nor a structure set.")


def _may_be_one(reason: Reason) -> bool:
    return reason is Reason.OTHER_OBJECT


def _structure_sets(paths: Sequence[Path]) -> tuple[list[_Drawn], list[str]]:
    """The structure sets among files, and why others cannot be read."""
    found, unreadable = [], []
    for path in paths:
        try:
            header, _ = open_header(path)
            if text(header, "SOPClassUID") != RTStructureSetStorage:
                continue
            dataset = read_structure_set(path)
            found.append(
                _Drawn(
                    path=path,
                    facts=structure_set_facts(dataset),
                    patient=whole_text(dataset, "PatientID").strip(),
                    rejected=is_rejected(dataset),
                )
            )
        except Exception as error:  # noqa: BLE001  # one odd object must not hide the others
            unreadable.append(f"A structure set cannot be read. {coded(error).sentence}")
    return found, unreadable


def _case(
    folder: Path, parts: Sequence[CtSeries], drawn: Sequence[_Drawn], used: set[Path]
) -> ClinicalCase | str:
    """The case of a CT series, or why there is none; notes which structure sets refer to it."""
    by_images = [(part, one) for part in parts for one in drawn if _images(part) & set(one.facts.images)]
    uid = parts[0].series_instance_uid
    links = by_images or [(parts[0], one) for one in drawn if uid in one.facts.series and len(parts) == 1]
    used |= {one.path for _, one in links}
    if not links:
        return "No structure set of its folder refers to this CT."
    if len({id(part) for part, _ in links}) > 1:
        return "It has several parts, and contours were drawn on more than one of them."
    chosen = _chosen([one for _, one in links])
    if isinstance(chosen, str):
        return chosen
    series = links[0][0]
    patient = whole_text(series.header, "PatientID").strip()
    if len({patient, chosen.patient} - {""}) > 1:
        return "The structure set that refers to this CT is of another patient."
    name = case_name(uid)
    return ClinicalCase(
        name=name, patient=patient or name, folder=folder, series=series, structures=chosen.path,
        approved=chosen.facts.approved,
    )  # fmt: skip


def _chosen(drawn: Sequence[_Drawn]) -> _Drawn | str:
    """The structure set that counts, or why none does: an approved one, else the newest."""
    left = [one for one in drawn if not one.rejected and (one.facts.approved or not one.facts.own)]
    if not left:
        return "Its structure set was rejected by a person, or is the node's own and nobody approved it."
    left = [one for one in left if one.facts.approved] or left
    newest = max(one.facts.written for one in left)
    left = [one for one in left if one.facts.written == newest]
    if len({one.facts.contours_sha256 for one in left}) > 1:
        return f"{len(left)} structure sets refer to it, and neither approval nor date says which one counts."
    return left[0]


def _images(series: CtSeries) -> set[str]:
    return {image.sop_instance_uid for image in series.slices}
