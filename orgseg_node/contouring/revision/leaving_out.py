"""Leaving out a structure of a result by a person's decision, and making the objects anew without it.

The structure stays in the objects as an empty one that says so, as with organs that are left out because they
are implausible. What the protocol derives from it is left out, too. The objects are other SOP instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from orgseg_node.contouring.label_export import on_grid
from orgseg_node.contouring.object_roles import PDF, PDF_ALONE, RTSTRUCT
from orgseg_node.contouring.objects import (
    RequestedObjects,
    Result,
    file_name,
    make_objects,
    prove_objects,
    trace_contours,
    wrap_page,
)
from orgseg_node.contouring.pipeline import MONTAGE, REPORT, draw, hashes_of, save_result
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.contouring.report import render_report, revise_report
from orgseg_node.contouring.report_pdf import render_report_pdf
from orgseg_node.contouring.revision.kept_result import keep, load_kept
from orgseg_node.core.body import find_body
from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.montage import Scene
from orgseg_node.core.regions import Region
from orgseg_node.dicom.objects.object_header import to_ascii
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import OptionInvalid

LEFT_OUT_CODE: Final = "STRUCTURE_LEFT_OUT"
_MARK: Final = "ORGAN LEFT OUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """New objects of a result.

    Attributes
    ----------
    objects : paths by role
    names : of the structures that were left out this time
    """

    objects: Mapping[str, Path]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The objects as they are, and what they were made from.

    Attributes
    ----------
    series : the CT
    kept : content of the kept result
    report : of the result
    objects : bytes of the part 10 files, by role
    requested : which objects were made
    protocol : that was applied
    """

    series: CtSeries
    kept: bytes
    report: Mapping[str, Any]
    objects: Mapping[str, bytes]
    requested: RequestedObjects
    protocol: Protocol


def make_without(before: Before, structure: str, out: Path, *, number: int, created: datetime) -> Revision:
    """Make the objects of a result anew, without one structure, and prove them.

    The kept result is first compared with the present objects, voxel by voxel: the new ones are made from
    nothing else than what these say.

    Parameters
    ----------
    before : the objects as they are
    structure : key or name of the structure that is left out
    out : new folder for the files
    number : of this revision of the objects, from 2
    created : date and time that the objects bear

    Raises
    ------
    OptionInvalid
        If there is no such structure, or nothing else.
    ResultUnreadable, ProofFailed
        If the kept result is damaged, or differs from the present objects.
    ObjectInvalid
        If a new object breaks its rules; nothing is written.
    DiskFull, StorageError
        If the folder cannot be written; it has no RTSTRUCT.dcm then.
    """
    series, requested = before.series, before.requested
    result = load_kept(before.kept, series)
    prove_objects(result, requested, before.objects)
    keys = keys_to_leave_out(result, before.protocol, structure)
    names = _names(result, keys)
    result = _without(result, keys, names, number=number, created=created)
    structures = trace_contours(result.applied, requested)
    objects = make_objects(result, requested, structures)
    prove_objects(result, requested, objects)
    volume = read_volume(series)
    label_map = on_grid(result.applied.label_map, series.grid)
    scene = Scene.of(volume, label_map, structures[RTSTRUCT], find_body(volume).mask)
    files = draw(replace(scene, marks=result.applied.judgement.grades)) | keep(result)
    sha256 = hashes_of(files | {file_name(role): content for role, content in objects.items()})
    report = revise_report(before.report, result, structures[RTSTRUCT], sha256)
    pages = [role for role in (PDF, PDF_ALONE) if role in requested.roles]
    page = render_report_pdf(report, files[MONTAGE]) if pages else b""
    for role in pages:
        objects[role] = wrap_page(page, result, objects, role)
        report["sha256"] |= hashes_of({file_name(role): objects[role]})
    save_result(out, files | {REPORT: render_report(report)}, objects)
    return Revision(objects={role: out / file_name(role) for role in objects}, names=names)


def keys_to_leave_out(result: Result, protocol: Protocol, structure: str) -> tuple[str, ...]:
    """The key of a structure, and of those that the protocol derives from it.

    Parameters
    ----------
    result : with the structure
    protocol : of the result
    structure : its key or name

    Raises
    ------
    OptionInvalid
        If there is none, or nothing else.
    """
    present = structures_of(result)
    wanted = structure.strip().casefold()
    key = next((k for k, name in present.items() if wanted in {k.casefold(), name.casefold()}), None)
    if key is None:
        raise OptionInvalid(f"The structures of this job are {', '.join(present.values()) or 'none'}.")
    gone, keys = {key}, [key]
    for entry in protocol.derived:  # in this order: each is derived from what stands before it
        if gone & {*entry.source, *entry.minus}:
            gone |= {entry.name, entry.key}
            keys += [entry.key] if entry.key in present else []
    organs = {organ.key for organ in result.applied.label_map.organs.values()}
    if not (organs & present.keys()) - set(keys):
        raise OptionInvalid("It is the only organ of this job, or all others come from it: reject the job.")
    return tuple(keys)


def structures_of(result: Result) -> dict[str, str]:
    """The names of the structures that are not empty, by key."""
    applied = result.applied
    counts = applied.label_map.voxel_counts()
    organs = {organ.key: organ.name for n, organ in applied.label_map.organs.items() if counts[n]}
    return organs | {one.organ.key: one.organ.name for one in applied.regions if one.mask.any()}


def _names(result: Result, keys: tuple[str, ...]) -> tuple[str, ...]:
    present = structures_of(result)
    return tuple(present[key] for key in keys)


def _without(
    result: Result, keys: tuple[str, ...], names: tuple[str, ...], *, number: int, created: datetime
) -> Result:
    """The result without some structures, which stay as empty ones."""
    applied, label_map = result.applied, result.applied.label_map
    labels = [label for label, organ in label_map.organs.items() if organ.key in keys]
    kept = np.where(np.isin(label_map.labels, labels), np.uint8(0), label_map.labels)
    regions = (_emptied(one) if one.organ.key in keys else one for one in applied.regions)
    findings = tuple(
        Finding(
            level=Level.INFO,
            code=LEFT_OUT_CODE,
            message=f"{name}: left out by a person, before the objects were sent.",
            organ=key,
        )
        for key, name in zip(keys, names, strict=True)
    )
    provenance = result.provenance
    return replace(
        result,
        applied=replace(
            applied,
            label_map=replace(label_map, labels=kept),
            regions=tuple(regions),
            removed=(*applied.removed, *keys),
        ),
        findings=(*result.findings, *findings),
        provenance=replace(
            provenance,
            remark=_remark(provenance.remark, names),
            object_revision=number,
            created=created,
        ),
    )


def _remark(before: str, names: tuple[str, ...]) -> str:
    """The remark of the objects, which says besides what was left out."""
    mark, colon, sentences = before.partition(": ")
    if not colon:
        mark, sentences = "", before
    marks = mark if mark.endswith(_MARK) else f"{mark} {_MARK}".strip()
    sentence = f"{to_ascii(', '.join(names))} left out by a person before sending."
    return f"{marks}: {f'{sentences} {sentence}'.strip()}"


def _emptied(region: Region) -> Region:
    return replace(region, mask=np.zeros_like(region.mask))
