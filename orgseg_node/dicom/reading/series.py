"""Finds the CT series in a set of files, and the reason why other files cannot be used.

`survey` never raises for bad input: every file is in exactly one of an accepted series, a refusal with its
error code, or the files set aside. `read_series` expects exactly one usable series.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from orgseg_node.core.checks import Finding
from orgseg_node.core.geometry import Grid, SliceStack, VoxelGeometry
from orgseg_node.dicom.folders import files_or_unreadable
from orgseg_node.dicom.objects.uids import derive_uid
from orgseg_node.dicom.reading.files import open_header, whole_uid
from orgseg_node.dicom.reading.grouping import Part, parts_of
from orgseg_node.dicom.reading.image_hash import image_hash
from orgseg_node.dicom.reading.image_kind import Reason
from orgseg_node.dicom.reading.joining import alternate
from orgseg_node.dicom.reading.missing_images import aside_findings, count_findings
from orgseg_node.dicom.reading.multiframe import frame_header
from orgseg_node.dicom.reading.patient_study import patient_study
from orgseg_node.dicom.reading.slices import (
    NO_UID,
    CtSlice,
    Orientation,
    PlacedSlice,
    SetAside,
    UnusableFile,
    classify_file,
)
from orgseg_node.dicom.reading.stacking import stack
from orgseg_node.errors import (
    InputError,
    MissingAttribute,
    NoSeries,
    NotDicom,
    NotImages,
    SeveralParts,
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
    "files_in",
    "read_series",
    "source_header",
    "survey",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CtSeries:
    """An axial CT series, or one volume of a series with several.

    Attributes
    ----------
    slices : in order along the normal, as index ``k`` of the volume
    study_instance_uid, series_instance_uid, frame_of_reference_uid : identity
    rows, columns : size of a slice
    pixel_spacing_mm : (row spacing, column spacing), as in the tag (0028,0030)
    orientation : Image Orientation (Patient): row direction, column direction
    patient_position : such as ``HFS``, or empty
    header : the first slice's header without pixel data, the source of patient and study attributes
    grid : the regular grid that is given to a network
    stack : position and orientation of each slice
    is_regular : whether the slices are on the planes of the grid
    part : name of the phase or part if the series has several; empty if it is one volume
    findings : what a person should know about the series
    known_sha256 : see `content_sha256`; empty until `with_content` has computed it
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
    stack: SliceStack
    is_regular: bool
    part: str = ""
    findings: tuple[Finding, ...] = ()
    known_sha256: str = ""

    @property
    def geometry(self) -> VoxelGeometry:
        """Geometry of the pixels of the slices: the grid if they are on it, else the stack."""
        return self.grid if self.is_regular else self.stack

    @property
    def content_sha256(self) -> str:
        """Hash of the images, whatever the names, the order and the encoding of the files; reads them all."""
        return self.known_sha256 or self._hash_of(image_hash)

    def with_content(self) -> CtSeries:
        """The same with `known_sha256`. Raises InputError or OSError."""
        return replace(self, known_sha256=self._hash_of(image_hash))

    def has_content(self, sha256: str) -> bool:
        """Whether this is its hash, or the hash of whole files that version 0.1.0 wrote into its jobs."""
        return any(sha256 == self._hash_of(hashed) for hashed in (image_hash, _file_hash))

    def _hash_of(self, hashed: Callable[[Path], str]) -> str:
        whole = hashlib.sha256()
        for uid, path in sorted({(s.sop_instance_uid, s.path) for s in self.slices}):
            whole.update(f"{uid} {hashed(path)}\n".encode())
        for frame in sorted(s.frame for s in self.slices if s.frame is not None):
            whole.update(f"frame {frame}\n".encode())
        return whole.hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Files that cannot be used, and the reason.

    Attributes
    ----------
    series_instance_uid : the series that is refused as a whole; None if the series of a file is unknown
    error : the reason, with its code
    paths : all files of the series, including those that are correct themselves
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
    """The result of a survey of files.

    Attributes
    ----------
    accepted : CT series and parts of series that can be used, those with most slices first
    refused : series and single files that cannot be used
    aside : files that are no CT slices, which is not an error
    patients : number of patients of the CT slices
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
    """All files in a folder and its subfolders except hidden ones, by name.

    A subfolder that cannot be read stands for its files, so that reading it says why.
    """
    return [folder] if folder.is_file() else sorted(files_or_unreadable(folder))


def survey(paths: Iterable[Path]) -> Inventory:
    """Sort files into series, and series into accepted and refused ones; never raises for bad input."""
    series: defaultdict[str, list[PlacedSlice | UnusableFile]] = defaultdict(list)
    refused: list[Refusal] = []
    aside: list[SetAside] = []
    for file in chain.from_iterable(map(classify_file, paths)):
        match file:
            case SetAside():
                aside.append(file)
            case UnusableFile(series_key=None):
                refused.append(Refusal(series_instance_uid=None, error=file.error, paths=(file.path,)))
            case _:
                series[str(file.series_key)].append(file)
    _find_slices_without_series(series)
    accepted: list[CtSeries] = []
    for key, members in series.items():
        try:
            volumes, left = _volumes(members)
            others = [one for one in aside if one.series_key == key]
            found = [aside_findings(one.slices, others) for one in volumes]
            accepted += [
                replace(one, findings=(*one.findings, *more))
                for one, more in zip(volumes, found, strict=True)
            ]
            aside += left
        except InputError as error:
            uid = None if key.startswith(NO_UID) else key
            paths = tuple(dict.fromkeys(map(_path, members)))  # the frames of a file share its path
            refused.append(Refusal(series_instance_uid=uid, error=error, paths=paths))
    return Inventory(
        accepted=tuple(sorted(accepted, key=lambda one: -len(one.slices))),
        refused=tuple(refused),
        aside=tuple(aside),
        patients=len({member.patient for members in series.values() for member in members}),
    )


def _find_slices_without_series(series: dict[str, list[PlacedSlice | UnusableFile]]) -> None:
    """Assign slices without Series Instance UID to the series whose gaps they fill, which is then refused."""
    placed = {
        key: [one for one in members if isinstance(one, PlacedSlice)] for key, members in series.items()
    }
    for key in [key for key in placed if key.startswith(NO_UID) and placed[key]]:
        for owner, slices in placed.items():
            same_frame = (
                not owner.startswith(NO_UID) and f"{NO_UID}{slices[0].frame_uid}" == key if slices else False
            )
            if same_frame and alternate([slices, placed[key]]):
                error = MissingAttribute("Some of its slices have no Series Instance UID.")
                series[owner] += [
                    UnusableFile(path=one.image.path, error=error, series_key=owner, patient=one.patient)
                    for one in placed[key]
                ]
                series.pop(key, None)


def read_series(folder: Path, series_uid: str | None = None, part: str | None = None) -> CtSeries:
    """The one usable CT series of a folder.

    Parameters
    ----------
    folder : with the files, also in subfolders; or a single file
    series_uid : Series Instance UID, or a part of only one, if there are several series
    part : name or number (from 1) of the part, if the series has several

    Raises
    ------
    InputError
        The subclass states why there is none, or more than one.
    """
    return choose(survey(files_in(folder)), series_uid, part)


def choose(inventory: Inventory, series_uid: str | None = None, part: str | None = None) -> CtSeries:
    """The one usable CT series of an inventory.

    Parameters
    ----------
    inventory : the result of `survey`
    series_uid : Series Instance UID, or a part of only one, if there are several series
    part : name or number (from 1) of the part, if the series has several

    Raises
    ------
    InputError
        The subclass states why there is none, or several. An unreadable file may be a slice of the series.
    """
    if inventory.patients > 1:
        raise SeveralPatients(f"There are {inventory.patients}.")
    if unknown := next((r for r in inventory.refused if r.series_instance_uid is None), None):
        raise unknown.error
    accepted, refused = inventory.accepted, inventory.refused
    if series_uid is not None:
        known = [*(a.series_instance_uid for a in accepted), *(r.series_instance_uid for r in refused)]
        uid = whole_uid(series_uid, known)
        accepted = tuple(a for a in accepted if a.series_instance_uid == uid)
        refused = tuple(r for r in refused if r.series_instance_uid == uid)
    if accepted:
        return _only(accepted if part is None else _with_part(accepted, part))
    if refused:
        raise max(refused, key=lambda one: one.files).error
    if series_uid is not None and (inventory.accepted or inventory.refused):
        raise NoSeries("No CT series has the requested UID.")
    raise _no_series_error(inventory.aside)


def _only(accepted: Sequence[CtSeries]) -> CtSeries:
    """The one series or part. Raises an error that lists the choices if there are several."""
    if len(accepted) == 1:
        return accepted[0]
    series = {one.series_instance_uid for one in accepted}
    if len(series) > 1:
        raise SeveralSeries(f"There are {len(series)}.")
    raise SeveralParts(f"They are: {'; '.join(one.part for one in accepted)}.")


def _with_part(accepted: Sequence[CtSeries], part: str) -> tuple[CtSeries, ...]:
    """Those whose part has this name, or the one with this number if all are parts of one series."""
    found = tuple(one for one in accepted if one.part.casefold() == part.strip().casefold())
    if not found and part.strip().isdecimal() and len({one.series_instance_uid for one in accepted}) == 1:
        number = int(part)
        found = tuple(accepted[number - 1 : number]) if number else ()
    if not found:
        names = "; ".join(one.part for one in accepted if one.part)
        raise NoSeries(f"No part has the requested name or number. They are: {names or 'none'}.")
    return found


def source_header(series: CtSeries, k: int) -> Dataset:
    """The header of slice ``k`` without pixel data, with the study and series UIDs of the series."""
    image = series.slices[k]
    return _header(image, (series.study_instance_uid, series.series_instance_uid))


def _header(image: CtSlice, study_and_series: tuple[str, str]) -> Dataset:
    header, _ = open_header(image.path)
    if image.frame is not None:
        header = frame_header(header, image.frame)
    study, series = study_and_series
    uids = {
        "SOPClassUID": image.sop_class_uid,
        "SOPInstanceUID": image.sop_instance_uid,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
    }
    for keyword, uid in uids.items():
        # as new elements: to set a value, pydicom would first decode the existing one
        header[Tag(keyword)] = DataElement(Tag(keyword), "UI", uid)
    return header


def _path(member: PlacedSlice | UnusableFile) -> Path:
    return member.path if isinstance(member, UnusableFile) else member.image.path


def _volumes(members: Sequence[PlacedSlice | UnusableFile]) -> tuple[list[CtSeries], Sequence[SetAside]]:
    """The volumes of one series, and its files that belong to no volume."""
    damaged = [member for member in members if isinstance(member, UnusableFile)]
    if damaged:
        raise damaged[0].error
    parts, aside = parts_of([member for member in members if isinstance(member, PlacedSlice)])
    volumes = [_series(part) for part in parts]
    images = len(members)
    return [
        replace(one, findings=(*one.findings, *count_findings(one.header, images))) for one in volumes
    ], aside


def _series(part: Part) -> CtSeries:
    stacked = stack(part.slices)
    first = stacked.slices[0]
    # the UIDs of existing objects derive from these texts: they must not change
    study_uid = first.study_uid or derive_uid("stand-in study", first.frame_uid)
    series_uid = first.series_uid or derive_uid("stand-in series", study_uid, first.frame_uid)
    header = _header(first.image, (study_uid, series_uid))
    copied = patient_study(header)
    return CtSeries(
        slices=tuple(one.image for one in stacked.slices),
        study_instance_uid=study_uid,
        series_instance_uid=series_uid,
        frame_of_reference_uid=first.frame_uid,
        rows=first.rows,
        columns=first.columns,
        pixel_spacing_mm=first.pixel_spacing_mm,
        orientation=first.image.orientation,
        patient_position=first.patient_position,
        header=header,
        grid=stacked.grid,
        stack=stacked.slice_stack,
        is_regular=stacked.is_regular,
        part=part.name,
        findings=(*part.findings, *stacked.findings, *copied.findings),
    )


def _no_series_error(aside: Sequence[SetAside]) -> InputError:
    reasons = {item.reason for item in aside}
    if not reasons:
        return NoSeries()
    if reasons == {Reason.NOT_DICOM}:
        return NotDicom("None of the files is.")
    if Reason.OTHER_MODALITY in reasons:
        return WrongModality()
    return NotImages()
