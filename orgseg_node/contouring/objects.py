"""Making the DICOM objects of a result, checking them against their rules, and proving them after read-back.

SEG and RTSTRUCT refer to each other; the structured report measures the segments of the SEG. Recipients that
get only some of them get variants without references to the others (`object_roles`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pydicom
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from orgseg_node.contouring.object_roles import (
    ALONE,
    PDF,
    PDF_ALONE,
    RTSTRUCT,
    RTSTRUCT_ALONE,
    SEG,
    SEG_ALONE,
    SR,
    SR_ALONE,
    SR_OF_SEG_ALONE,
)
from orgseg_node.contouring.structures import AppliedProtocol
from orgseg_node.core.checks import Finding
from orgseg_node.core.contours import StructureSet, Tracing, trace
from orgseg_node.dicom.objects import iod
from orgseg_node.dicom.objects.pdf import write_pdf
from orgseg_node.dicom.objects.provenance import Provenance
from orgseg_node.dicom.objects.rtstruct import prove as prove_rtstruct
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.objects.seg import SegKind, prove_seg, seg_alone, write_seg
from orgseg_node.dicom.objects.sr import write_report_sr
from orgseg_node.dicom.objects.uids import derive_uid
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.dicom.tps.tps import PROFILES, TpsProfile, require_valid
from orgseg_node.errors import NothingFound, NothingPlausible

OPTIONAL = (
    *(SR, SR_OF_SEG_ALONE, SR_ALONE, PDF, PDF_ALONE, SEG_ALONE, RTSTRUCT_ALONE),
    *(f"{RTSTRUCT}:{name}" for name in PROFILES),
)
"""Roles of the objects that a job makes on request only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedObjects:
    """Which objects a job makes.

    Attributes
    ----------
    roles : such as ``SR``, ``PDF``, ``RTSTRUCT:eclipse``; ``RTSTRUCT`` and ``SEG`` are always made
    profile : name of the planning system whose limits the plain ``RTSTRUCT`` keeps
    seg : how the Segmentation stores the organs
    """

    roles: tuple[str, ...] = (RTSTRUCT, SEG)
    profile: str = "generic"
    seg: SegKind = SegKind.BINARY

    @property
    def structure_sets(self) -> Mapping[str, TpsProfile]:
        """Profile of each RT Structure Set, by role."""
        found = {RTSTRUCT: PROFILES[self.profile]}
        for role in self.roles:
            kind, _, name = role.partition(":")
            if kind == RTSTRUCT and name:
                profile = PROFILES[self.profile if name == ALONE else name]
                found[role] = replace(profile, definition_source=False)
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """The content of the objects.

    Attributes
    ----------
    series : the CT
    applied : organs and regions on the slices of the CT
    findings : what a person should know
    provenance : job, time and models
    """

    series: CtSeries
    applied: AppliedProtocol
    findings: tuple[Finding, ...]
    provenance: Provenance


def file_name(role: str) -> str:
    """File name of the object with this role."""
    return f"{role.replace(':', '-')}.dcm"


def trace_contours(applied: AppliedProtocol, requested: RequestedObjects) -> dict[str, StructureSet]:
    """The contours of organs and regions in the form that each planning system accepts, by role.

    Raises
    ------
    NothingFound
        If the label map has no organ.
    NothingPlausible
        If every organ was left out as implausible.
    """
    if not applied.label_map.labels.any():
        names = ", ".join(organ.name for organ in applied.left_out)
        if names:
            raise NothingPlausible(f"Left out: {names}.")
        raise NothingFound
    traced: dict[Tracing, StructureSet] = {}
    for profile in requested.structure_sets.values():
        if profile.tracing not in traced:
            contours = trace(applied.label_map, profile.tracing, regions=applied.regions, order=applied.order)
            traced[profile.tracing] = replace(contours, warnings=applied.warnings)
    return {role: traced[profile.tracing] for role, profile in requested.structure_sets.items()}


def make_objects(
    result: Result, requested: RequestedObjects, structures: Mapping[str, StructureSet]
) -> dict[str, bytes]:
    """The requested objects except the PDF, by role, as the bytes of part 10 files.

    Parameters
    ----------
    result : their content
    requested : which objects
    structures : contours by role of their RT Structure Set, see `trace_contours`

    Raises
    ------
    ObjectInvalid
        If an object breaks the rules of DICOM or of its planning system.
    """
    series, provenance, label_map = result.series, result.provenance, result.applied.label_map
    main = derive_uid(provenance.uid_root, RTSTRUCT, "instance", *_variant(requested.profile))
    seg = write_seg(label_map, series, provenance, kind=requested.seg, structure_set_uid=main)
    objects = {SEG: encoded(seg)}
    if {SEG_ALONE, SR_OF_SEG_ALONE} & set(requested.roles):
        objects[SEG_ALONE] = encoded(seg_alone(decoded(objects[SEG]), provenance))
    for role, profile in requested.structure_sets.items():
        referenced = seg if profile.definition_source else None
        dataset = write_rtstruct(structures[role], series, provenance, profile, referenced)
        objects[role] = encoded(dataset)
        require_valid(decoded(objects[role]), profile)
    measured = {SR: SEG, SR_OF_SEG_ALONE: SEG_ALONE, SR_ALONE: None}
    for role in measured.keys() & set(requested.roles):
        segments = measured[role]
        source = None if segments is None else decoded(objects[segments])
        objects[role] = encoded(write_report_sr(label_map, series, provenance, source, result.findings))
    return objects


def prove_objects(result: Result, requested: RequestedObjects, objects: Mapping[str, bytes]) -> None:
    """Read the objects back from their bytes and compare each with the result, voxel by voxel.

    Parameters
    ----------
    result : the result they were made from
    requested : which RT Structure Sets there are
    objects : bytes of the part 10 files by role, see `make_objects`

    Raises
    ------
    ProofFailed
        If an object differs from the result.
    """
    label_map, series = result.applied.label_map, result.series
    for role, profile in requested.structure_sets.items():
        prove_rtstruct(decoded(objects[role]), label_map, series, result.applied.regions, profile)
    for role in (SEG, SEG_ALONE):
        if role in objects:
            prove_seg(decoded(objects[role]), label_map, series)


def wrap_page(page: bytes, result: Result, objects: Mapping[str, bytes], role: str = PDF) -> bytes:
    """The one-page report as a DICOM object; ``PDF`` refers to RT Structure Set and Segmentation.

    Parameters
    ----------
    page : the report as PDF
    result : the result it reports on
    objects : bytes of the other part 10 files by role
    role : ``PDF`` or ``PDF:alone``

    Returns
    -------
    bytes of a part 10 file
    """
    sources = [decoded(objects[one]) for one in (RTSTRUCT, SEG)] if role == PDF else []
    return encoded(write_pdf(page, result.series, result.provenance, sources=sources))


def encoded(dataset: Dataset) -> bytes:
    """The bytes of a part 10 file; the same bytes are proven and then written."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def decoded(content: bytes) -> Dataset:
    """The dataset in the bytes of a part 10 file."""
    return pydicom.dcmread(io.BytesIO(content))


def preload_libraries() -> None:
    """Read the tables of DICOM modules now, so that the first job of this process does not wait for them."""
    iod.preload(RTStructureSetStorage)
    # highdicom has tables of its own, and reads them when it makes its first object
    get_iod_module_map()
    get_module_attribute_map()


def _variant(profile: str) -> tuple[str, ...]:
    """What distinguishes the UID of an RT Structure Set for a planning system from the generic one."""
    return () if profile == "generic" else (profile,)
