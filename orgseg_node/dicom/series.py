"""Which CT series are in a heap of files, and why the rest is none.

`survey` never raises for bad input: every file ends in exactly one place, an accepted series, a refusal with
its coded reason, or set aside. `read_series` is for whoever expects exactly one usable series.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from orgseg_node.core.checks import Finding
from orgseg_node.core.geometry import Grid
from orgseg_node.dicom.files import open_header, text, uid_name
from orgseg_node.dicom.slices import NO_UID, CtSlice, Damaged, Orientation, Placed, Reason, SetAside, judge
from orgseg_node.dicom.stacking import regular_grid, stack
from orgseg_node.dicom.uids import derive_uid
from orgseg_node.errors import (
    InputError,
    NoSeries,
    NotDicom,
    NotImages,
    SeveralPatients,
    SeveralSeries,
    WrongModality,
)

__all__ = [
    "CtSeries",
    "CtSlice",
    "Inventory",
    "Reason",
    "Refusal",
    "SetAside",
    "choose",
    "describe",
    "files_in",
    "read_series",
    "source_header",
    "survey",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CtSeries:
    """A clean, regular, axial CT series.

    Attributes
    ----------
    slices : in order along the normal, as ``k`` of the volume runs
    study_instance_uid, series_instance_uid, frame_of_reference_uid : identity
    rows, columns : size of a slice
    pixel_spacing_mm : (row spacing, column spacing), as in the tag (0028,0030)
    orientation : Image Orientation (Patient): row direction, column direction
    patient_position : such as ``HFS``, or empty
    header : the first slice's header without pixel data, the source of patient and study attributes
    grid : where the voxels are
    findings : what should be known about the series
    """

    slices: tuple[CtSlice, ...]
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    orientation: Orientation
    patient_position: str
    header: Dataset
    grid: Grid
    findings: tuple[Finding, ...] = ()

    @property
    def content_sha256(self) -> str:
        """Hash of the series' files, whatever their names and order; reads them all (about 1 GB/s)."""
        whole = hashlib.sha256()
        for uid, path in sorted((s.sop_instance_uid, s.path) for s in self.slices):
            with path.open("rb") as file:
                whole.update(f"{uid} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return whole.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Files that cannot be used, and why.

    Attributes
    ----------
    series_instance_uid : the series that is refused as a whole, None where a file's series is unknown
    error : the coded reason
    paths : all files of the series, also those that have no fault of their own
    """

    series_instance_uid: str | None
    error: InputError
    paths: tuple[Path, ...]

    @property
    def files(self) -> int:
        """Number of files."""
        return len(self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a heap of files holds.

    Attributes
    ----------
    accepted : clean CT series, the one with most slices first
    refused : series and single files that cannot be used
    aside : files that are no CT slices and were not meant to be
    patients : number of patients the CT slices belong to
    """

    accepted: tuple[CtSeries, ...]
    refused: tuple[Refusal, ...]
    aside: tuple[SetAside, ...]
    patients: int

    @property
    def set_aside(self) -> Mapping[str, int]:
        """Number of files set aside, by reason."""
        return Counter(str(item.reason) for item in self.aside)


def files_in(folder: Path) -> list[Path]:
    """All files in a folder and its subfolders but hidden ones, in order of their names."""
    if folder.is_file():
        return [folder]
    inside = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in inside if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def survey(paths: Iterable[Path]) -> Inventory:
    """Sort files into series, and series into accepted and refused ones; never raises for bad input."""
    series: defaultdict[str, list[Placed | Damaged]] = defaultdict(list)
    refused: list[Refusal] = []
    aside: list[SetAside] = []
    for judged in map(judge, paths):
        match judged:
            case SetAside():
                aside.append(judged)
            case Damaged(series_key=None):
                refused.append(Refusal(series_instance_uid=None, error=judged.error, paths=(judged.path,)))
            case _:
                series[str(judged.series_key)].append(judged)
    accepted: list[CtSeries] = []
    for key, members in series.items():
        try:
            accepted.append(_series(members))
        except InputError as error:
            uid = None if key.startswith(NO_UID) else key
            refused.append(Refusal(series_instance_uid=uid, error=error, paths=tuple(map(_path, members))))
    return Inventory(
        accepted=tuple(sorted(accepted, key=lambda one: -len(one.slices))),
        refused=tuple(refused),
        aside=tuple(aside),
        patients=len({member.patient for members in series.values() for member in members}),
    )


def read_series(folder: Path, series_uid: str | None = None) -> CtSeries:
    """The one usable CT series of a folder, or the one with the UID.

    Raises
    ------
    InputError
        The class that says why there is none, or more than one.
    """
    return choose(survey(files_in(folder)), series_uid)


def choose(inventory: Inventory, series_uid: str | None = None) -> CtSeries:
    """The one usable CT series of an inventory, or the one with the UID.

    Raises
    ------
    InputError
        The class that says why there is none, or more than one. A file that may be a slice of the series
        but cannot be read refuses everything: it might be its last slice.
    """
    if inventory.patients > 1:
        raise SeveralPatients(f"There are {inventory.patients}.")
    for refusal in inventory.refused:
        if refusal.series_instance_uid is None:
            raise refusal.error
    accepted, refused = inventory.accepted, inventory.refused
    if series_uid is not None:
        accepted = tuple(one for one in accepted if one.series_instance_uid == series_uid)
        refused = tuple(one for one in refused if one.series_instance_uid == series_uid)
    if len(accepted) == 1:
        return accepted[0]
    if accepted:
        raise SeveralSeries(f"There are {len(accepted)}.")
    if refused:
        raise max(refused, key=lambda one: one.files).error
    if series_uid is not None and (inventory.accepted or inventory.refused):
        raise NoSeries("No CT series has the UID asked for.")
    raise _nothing(inventory.aside)


def describe(series: CtSeries) -> dict[str, Any]:
    """What a physicist wants to know about a series; nothing that tells who the patient is."""
    header, grid = series.header, series.grid
    corners = grid.to_lps([(0, 0, 0), tuple(n - 1 for n in grid.shape)])
    return {
        "slices": len(series.slices),
        "rows": series.rows,
        "columns": series.columns,
        "pixel_spacing_mm": list(series.pixel_spacing_mm),
        "slice_spacing_mm": round(grid.spacing_mm[0], 4),
        "slice_thickness_mm": text(header, "SliceThickness"),
        "first_slice_z_mm": round(float(series.slices[0].position_mm[2]), 3),
        "last_slice_z_mm": round(float(series.slices[-1].position_mm[2]), 3),
        "extent_mm": [[round(float(v), 2) for v in corner] for corner in corners],
        "orientation": list(series.orientation),
        "patient_position": series.patient_position,
        "transfer_syntaxes": sorted({uid_name(s.transfer_syntax_uid) for s in series.slices}),
        "manufacturer": text(header, "Manufacturer"),
        "model": text(header, "ManufacturerModelName"),
        "kvp": text(header, "KVP"),
        "series_instance_uid": series.series_instance_uid,
        "frame_of_reference_uid": series.frame_of_reference_uid,
        "findings": [{"level": str(f.level), "code": f.code, "message": f.message} for f in series.findings],
    }


def source_header(series: CtSeries, k: int) -> Dataset:
    """The header of slice ``k`` without pixel data, with the UIDs that the series goes by."""
    image = series.slices[k]
    header, _ = open_header(image.path)
    _put_uids(header, image, (series.study_instance_uid, series.series_instance_uid))
    return header


def _put_uids(header: Dataset, image: CtSlice, study_and_series: tuple[str, str]) -> None:
    header.SOPClassUID, header.SOPInstanceUID = image.sop_class_uid, image.sop_instance_uid
    header.StudyInstanceUID, header.SeriesInstanceUID = study_and_series


def _path(member: Placed | Damaged) -> Path:
    return member.path if isinstance(member, Damaged) else member.image.path


def _series(members: Sequence[Placed | Damaged]) -> CtSeries:
    placed = [member for member in members if isinstance(member, Placed)]
    damaged = [member for member in members if isinstance(member, Damaged)]
    if damaged:
        raise damaged[0].error
    ordered, findings = stack(placed)
    first = ordered[0]
    study_uid = first.study_uid or derive_uid("stand-in study", first.frame_uid)
    series_uid = first.series_uid or derive_uid("stand-in series", study_uid, first.frame_uid)
    header, _ = open_header(first.image.path)
    _put_uids(header, first.image, (study_uid, series_uid))
    return CtSeries(
        slices=tuple(one.image for one in ordered),
        study_instance_uid=study_uid,
        series_instance_uid=series_uid,
        frame_of_reference_uid=first.frame_uid,
        rows=first.rows,
        columns=first.columns,
        pixel_spacing_mm=first.pixel_spacing_mm,
        orientation=first.orientation,
        patient_position=first.patient_position,
        header=header,
        grid=regular_grid(ordered),
        findings=findings,
    )


def _nothing(aside: Sequence[SetAside]) -> InputError:
    reasons = {item.reason for item in aside}
    if not reasons:
        return NoSeries()
    if reasons == {Reason.NOT_DICOM}:
        return NotDicom("None of the files is.")
    if Reason.OTHER_MODALITY in reasons:
        return WrongModality()
    return NotImages()
