"""A clinic's archive: the chain from CT to RTSTRUCT to RTPLAN, and a reason for all that does not fit."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orgseg_node.core.checks import Finding, Level
from orgseg_node.dicom.reading.files import open_header, whole_text
from orgseg_node.dicom.reading.series import CtSeries, Inventory, Reason, files_in
from orgseg_node.errors import InputError, OrgsegError, SeveralParts
from orgseg_training.datasets.rtstruct.ct_survey import survey_each
from orgseg_training.datasets.rtstruct.plans import Plan, find_plans
from orgseg_training.datasets.rtstruct.structure_sets import (
    Link,
    StructureSet,
    contours_hash,
    find_structure_sets,
    links_of,
    places_in_frame,
)
from orgseg_training.errors import CaseRejected


@dataclass(frozen=True, kw_only=True, eq=False)
class Archive:
    """What was found in the folders of an archive.

    Attributes
    ----------
    folders : searched with all their subfolders
    inventory : CT series, refused series, and other files
    structure_sets : all that could be read
    plans : all that could be read
    damaged : files that could not be read, with the reason
    any_export : see `links_of`
    """

    folders: tuple[Path, ...]
    inventory: Inventory
    structure_sets: tuple[StructureSet, ...]
    plans: tuple[Plan, ...]
    damaged: tuple[tuple[Path, OrgsegError], ...]
    any_export: bool = False

    @cached_property
    def links(self) -> tuple[Mapping[int, list[Link]], Sequence[StructureSet]]:
        """The structure sets of each CT series, by its place, and those that belong to none."""
        return links_of(self.structure_sets, self.inventory.accepted, any_export=self.any_export)

    @cached_property
    def planned(self) -> frozenset[str]:
        """SOP Instance UIDs of the structure sets on which a plan was made."""
        return frozenset().union(*(plan.structure_sets for plan in self.plans))

    def scans(self) -> list[list[tuple[CtSeries, list[Link]]]]:
        """The CT series, each with its parts and their structure sets."""
        links, _ = self.links
        places: dict[str, list[tuple[CtSeries, list[Link]]]] = {}
        for n, one in enumerate(self.inventory.accepted):
            places.setdefault(one.series_instance_uid, []).append((one, list(links.get(n, []))))
        return list(places.values())

    def unmatched(self) -> Iterator[tuple[str, Path, OrgsegError]]:
        """Name, file and reason of refused series, lone structure sets, and damaged files."""
        for refusal in self.inventory.refused:
            uid, path = refusal.series_instance_uid, refusal.paths[0]
            yield (short_hash(uid) if uid else self.place_of(path)), path, refusal.error
        refused = {refusal.series_instance_uid for refusal in self.inventory.refused}
        for one in self.links[1]:
            if not one.listed & refused:
                yield self.place_of(one.path), one.path, self._missing_ct(one)
        for path, error in self.damaged:
            yield self.place_of(path), path, error

    def passed_over(self) -> dict[str, int]:
        """Number of files that are neither CT nor structure set nor plan, by what they are."""
        counts = Counter(self.inventory.set_aside)
        known = {one.path for one in self.structure_sets} | {one.path for one in self.plans}
        known |= {path for path, _ in self.damaged}
        counts[Reason.OTHER_OBJECT] -= sum(
            item.reason is Reason.OTHER_OBJECT and item.path in known for item in self.inventory.aside
        )
        return {str(reason): count for reason, count in sorted(counts.items()) if count}

    def _missing_ct(self, one: StructureSet) -> CaseRejected:
        why = "The CT that this RTSTRUCT refers to is not here."
        if len(places_in_frame(one, self.inventory.accepted)) == 1:
            why += (
                " If that CT was only exported again, any_export = true in site.toml uses the other export."
            )
        return CaseRejected(why)

    def place_of(self, path: Path) -> str:
        """Name of a file without patient data: the hash of its place in the archive."""
        return _place_of(path, self.folders)

    @staticmethod
    def name_of(series: CtSeries) -> str:
        """Name of a scan without patient data."""
        return short_hash(series.series_instance_uid)

    @staticmethod
    def patient_id_of(path: Path) -> str:
        """The Patient ID in a file that may be damaged; empty if it has none."""
        try:
            return whole_text(open_header(path)[0], "PatientID")
        except Exception:  # noqa: BLE001  # whatever is wrong with it is listed as its reason
            return ""

    def lone_plans(self) -> list[Plan]:
        """Plans that were made on a structure set that is not here."""
        here = {one.uid for one in self.structure_sets}
        return [plan for plan in self.plans if plan.structure_sets.isdisjoint(here)]


def read_archive(folders: Sequence[Path], *, any_export: bool = False) -> Archive:
    """Read the headers of all files in folders.

    Parameters
    ----------
    folders : searched with all their subfolders
    any_export : see `links_of`

    Raises
    ------
    InputError
        If the folders have neither CT nor RTSTRUCT.
    """
    paths = [path for folder in folders for path in files_in(folder)]
    inventory, unread = survey_each(paths)
    found, damaged = find_structure_sets(inventory)
    plans, damaged_plans = find_plans(inventory)
    if not inventory.accepted and not inventory.refused and not found and not unread:
        raise InputError(
            f"{', '.join(folder.name for folder in folders)} holds no CT series and no RTSTRUCT."
        )
    known = {path for path, _ in damaged}
    others = [(path, error) for path, error in damaged_plans if path not in known]
    return Archive(
        folders=tuple(folders),
        inventory=inventory,
        structure_sets=tuple(found),
        plans=tuple(plans),
        damaged=(*damaged, *others, *unread),
        any_export=any_export,
    )


def file_of_place(name: str, folders: Sequence[Path]) -> Path | None:
    """The file that `Archive.place_of` gives this name, ``file-`` and a hash; None if there is none."""
    paths = (path for folder in folders for path in files_in(folder))
    return next((path for path in paths if _place_of(path, folders) == name), None)


def drawn_part(parts: Sequence[tuple[CtSeries, list[Link]]]) -> tuple[CtSeries, list[Link]]:
    """The part of a series on which contours were drawn, and its structure sets. Raises SeveralParts."""
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


def choose_structure_set(
    links: Sequence[Link], planned: frozenset[str] = frozenset(), *, automatic: bool, label: str = ""
) -> tuple[Link, Finding | None]:
    """The structure set of a CT, with a finding if there are several.

    One that a person rejected never counts. Of several, in this order: those that refer to its images, those
    whose label matches the rule, those on which a plan was made, those that are approved, the newest.

    Parameters
    ----------
    links : the structure sets of the CT
    planned : SOP Instance UIDs of structure sets on which a plan was made
    automatic : whether contours that a program made and nobody approved count as drawn
    label : regular expression for preferred labels, empty for none

    Raises
    ------
    CaseRejected
        If there is none, or it is not certain which one.
    """
    if not links:
        raise CaseRejected("No RTSTRUCT refers to this CT.")
    accepted = [one for one in links if not one.structures.rejected]
    if not accepted:
        raise CaseRejected("A person rejected its RTSTRUCT (Approval Status).")
    trusted = [one for one in accepted if automatic or not one.structures.automatic]
    if not trusted:
        raise CaseRejected(
            "A program made its RTSTRUCT and nobody approved it; with automatic = true it is used."
        )
    link, why = _preferred(trusted, planned, label)
    if link.rivals:
        raise CaseRejected(
            f"Its RTSTRUCT may belong to {link.rivals + 1} CTs, and its contours do not say to which."
        )
    if not why:
        return link, None
    message = f"Of {len(trusted)} structure sets of this CT the one is used that {why}."
    return link, Finding(level=Level.WARNING, code="STRUCTURES_SEVERAL", message=message)


def require_same_patient(series: CtSeries, link: Link) -> None:
    """Refuse another Patient ID; a missing one only if the contours do not refer to the images."""
    ids = {whole_text(series.header, "PatientID"), link.structures.patient}
    if len(ids) > 1 and not (link.by_images and "" in ids):
        raise CaseRejected("The RTSTRUCT that refers to this CT is of another patient.")


def short_hash(text: str) -> str:
    """A name that says nothing about a patient."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _place_of(path: Path, folders: Sequence[Path]) -> str:
    for folder in folders:
        if path != folder and path.is_relative_to(folder):
            return f"file-{short_hash(path.relative_to(folder).as_posix())}"
    return f"file-{short_hash(path.name)}"


def _preferred(links: Sequence[Link], planned: frozenset[str], label: str) -> tuple[Link, str]:
    """The preferred structure set, and why; empty if there is no choice."""
    left = [link for link in links if link.by_images] or list(links)
    why = "refers to its images" if len(left) < len(links) else ""
    rules = (
        (
            "has the label that the rule asks for",
            lambda one: bool(label and re.search(label, one.label, re.IGNORECASE)),
        ),
        ("a plan was made on", lambda one: one.uid in planned),
        ("is approved", lambda one: one.approved),
    )
    for words, fits in rules:
        fitting = [link for link in left if fits(link.structures)]
        if fitting and len(fitting) < len(left):
            left, why = fitting, words
    if len(left) > 1:
        newest = max(link.structures.written for link in left)
        fitting = [link for link in left if link.structures.written == newest]
        if (len(fitting) > 1 or not newest) and len({contours_hash(link.structures) for link in left}) > 1:
            raise CaseRejected(
                f"{len(left)} RTSTRUCTs refer to this CT, and neither label, plan, approval nor date says "
                "which one counts; name a label in site.toml."
            )
        left, why = (
            fitting,
            "is the newest" if len(fitting) == 1 else "was found first; their contours are equal",
        )
    return left[0], why
