"""The DICOM objects of a result: made, checked against their rules, read back and proven.

SEG and RTSTRUCT refer to each other; the structured report measures the segments of the SEG. Each planning
system with limits of its own gets an RTSTRUCT of its own, under the role ``RTSTRUCT:name``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import pydicom
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from orgseg_node.contouring.structures import Applied
from orgseg_node.core.checks import Finding
from orgseg_node.core.contours import StructureSet, Tracing, trace
from orgseg_node.dicom.objects import iod
from orgseg_node.dicom.objects.pdf import write_pdf
from orgseg_node.dicom.objects.provenance import Provenance
from orgseg_node.dicom.objects.rtstruct import prove as prove_rtstruct
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.objects.seg import SegKind, prove_seg, write_seg
from orgseg_node.dicom.objects.sr import write_report_sr
from orgseg_node.dicom.objects.uids import derive_uid
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.dicom.tps.tps import PROFILES, TpsProfile, require_valid
from orgseg_node.errors import NothingFound

RTSTRUCT, SEG, SR, PDF = "RTSTRUCT", "SEG", "SR", "PDF"
OPTIONAL = (SR, PDF, *(f"{RTSTRUCT}:{name}" for name in PROFILES))
"""Roles of objects that not every job makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which objects a job makes.

    Attributes
    ----------
    roles : such as ``RTSTRUCT``, ``SEG``, ``SR``, ``PDF``, ``RTSTRUCT:eclipse``; the first two always
    profile : the planning system of the plain ``RTSTRUCT``
    seg : how the Segmentation holds the organs
    """

    roles: tuple[str, ...] = (RTSTRUCT, SEG)
    profile: str = "generic"
    seg: SegKind = SegKind.BINARY

    @property
    def structure_sets(self) -> Mapping[str, TpsProfile]:
        """Profiles of the RT Structure Sets, by role."""
        named = {role: role.partition(":")[2] or self.profile for role in (RTSTRUCT, *self.roles)}
        return {role: PROFILES[name] for role, name in named.items() if role.startswith(RTSTRUCT)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """What the objects say.

    Attributes
    ----------
    series : the CT
    applied : organs and regions on the slices of the CT
    findings : what a person should know
    provenance : job, time and models
    """

    series: CtSeries
    applied: Applied
    findings: tuple[Finding, ...]
    provenance: Provenance


def file_name(role: str) -> str:
    """The name of the file of an object."""
    return f"{role.replace(':', '-')}.dcm"


def trace_contours(applied: Applied, wanted: Wanted) -> dict[str, StructureSet]:
    """The contours of organs and regions as each planning system takes them, by role.

    Raises
    ------
    NothingFound
        If there is no organ.
    """
    if not applied.label_map.labels.any():
        raise NothingFound
    traced: dict[Tracing, StructureSet] = {}
    for profile in wanted.structure_sets.values():
        if profile.tracing not in traced:
            traced[profile.tracing] = trace(
                applied.label_map, profile.tracing, regions=applied.regions, order=applied.order
            )
    return {role: traced[profile.tracing] for role, profile in wanted.structure_sets.items()}


def make_objects(result: Result, wanted: Wanted, structures: Mapping[str, StructureSet]) -> dict[str, bytes]:
    """The objects but the PDF, by role, as the bytes of part 10 files.

    Parameters
    ----------
    result : what they say
    wanted : which of them
    structures : contours by role of their RT Structure Set

    Raises
    ------
    ObjectInvalid
        If one breaks the rules of DICOM or of its planning system.
    """
    series, provenance, label_map = result.series, result.provenance, result.applied.label_map
    main = derive_uid(provenance.job_id, RTSTRUCT, "instance", *_variant(wanted.profile))
    seg = write_seg(label_map, series, provenance, kind=wanted.seg, structure_set_uid=main)
    made = {SEG: encoded(seg)}
    for role, profile in wanted.structure_sets.items():
        # a planning system that does not get the SEG should not be told of it
        told = seg if profile.definition_source else None
        dataset = write_rtstruct(structures[role], series, provenance, profile, told)
        made[role] = encoded(dataset)
        require_valid(decoded(made[role]), profile)
    if SR in wanted.roles:
        made[SR] = encoded(write_report_sr(label_map, series, provenance, seg, result.findings))
    return made


def prove_objects(result: Result, wanted: Wanted, made: Mapping[str, bytes]) -> None:
    """Read the objects back from their bytes; each must say what was computed, voxel for voxel.

    Raises
    ------
    ProofFailed
        If one does not.
    """
    label_map, series = result.applied.label_map, result.series
    for role, profile in wanted.structure_sets.items():
        prove_rtstruct(decoded(made[role]), label_map, series, result.applied.regions, profile)
    prove_seg(decoded(made[SEG]), label_map, series)


def wrap_page(page: bytes, result: Result, made: Mapping[str, bytes]) -> bytes:
    """The one-page report as a DICOM object that refers to the objects it reports on."""
    sources = [decoded(made[role]) for role in (RTSTRUCT, SEG, SR) if role in made]
    return encoded(write_pdf(page, result.series, result.provenance, sources=sources))


def encoded(dataset: Dataset) -> bytes:
    """The bytes of a part 10 file; these very bytes are proven and then written."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def decoded(content: bytes) -> Dataset:
    """A dataset from the bytes of a part 10 file."""
    return pydicom.dcmread(io.BytesIO(content))


def preload_libraries() -> None:
    """Read the tables that making and checking objects needs; a process that waits for work does it then."""
    iod.preload(RTStructureSetStorage)
    # highdicom reads its own copy, and keeps it, when it makes the first object
    get_iod_module_map()
    get_module_attribute_map()


def _variant(profile: str) -> tuple[str, ...]:
    """What sets the UID of an RT Structure Set for a planning system apart from that of the generic one."""
    return () if profile == "generic" else (profile,)
