"""A result in one file, exactly, so that other objects can be made from it later without the networks.

The labels are those on the slices of the CT from which the contours were traced; on irregular slices the
NIfTI file has others.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from orgseg_node.contouring.objects import Result
from orgseg_node.contouring.structures import AppliedProtocol
from orgseg_node.core.anatomy.plausibility import Judgement
from orgseg_node.core.checks import Finding
from orgseg_node.core.geometry import Box
from orgseg_node.core.organs import Organ
from orgseg_node.core.regions import Region
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.provenance import Provenance
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ResultUnreadable

KEPT: Final = "result.npz"
BROKEN: Final = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged file of arrays raises."""

_ABOUT, _LABELS, _REGION = "about", "labels", "region"
_Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeptRegion:
    organ: Organ
    start: _Place
    stop: _Place
    derivation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    """Everything of a result that is no voxel."""

    organs: dict[int, Organ]
    regions: list[_KeptRegion]
    order: tuple[str, ...]
    applied_findings: tuple[Finding, ...]
    recorded: tuple[dict[str, Any], ...]
    judgement: Judgement
    left_out: tuple[Organ, ...]
    removed: tuple[str, ...]
    findings: tuple[Finding, ...]
    provenance: Provenance


_JSON: Final = TypeAdapter(_About)


def keep(result: Result) -> dict[str, bytes]:
    """A result as a file, by its name; the same result gives the same bytes."""
    applied = result.applied
    about = _About(
        organs=dict(applied.label_map.organs),
        regions=[
            _KeptRegion(organ=one.organ, start=one.box.start, stop=one.box.stop, derivation=one.derivation)
            for one in applied.regions
        ],
        order=applied.order,
        applied_findings=applied.findings,
        recorded=applied.recorded,
        judgement=applied.judgement,
        left_out=applied.left_out,
        removed=applied.removed,
        findings=result.findings,
        provenance=result.provenance,
    )
    arrays: dict[str, NDArray[np.uint8]] = {
        _ABOUT: np.frombuffer(_JSON.dump_json(about), dtype=np.uint8),
        _LABELS: applied.label_map.labels,
    }
    for number, region in enumerate(applied.regions):
        arrays[f"{_REGION}{number}"] = np.packbits(region.mask)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return {KEPT: file.getvalue()}


def load_kept(content: bytes, series: CtSeries) -> Result:
    """The result that was kept.

    Parameters
    ----------
    content : of the file
    series : its CT

    Raises
    ------
    ResultUnreadable
        If the file is damaged, or of another series.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            about = _JSON.validate_json(arrays[_ABOUT].tobytes())
            labels: NDArray[np.uint8] = arrays[_LABELS]
            masks = [arrays[f"{_REGION}{number}"] for number in range(len(about.regions))]
    except (*BROKEN, ValidationError) as error:
        raise ResultUnreadable(f"{KEPT}: {type(error).__name__}.") from error
    geometry = series.geometry
    if labels.shape != geometry.shape or labels.dtype != np.uint8:
        raise ResultUnreadable(f"{KEPT} is of another series.")
    return Result(
        series=series,
        applied=AppliedProtocol(
            label_map=LabelMap(grid=geometry, labels=labels, organs=about.organs),
            regions=tuple(_region(one, bits) for one, bits in zip(about.regions, masks, strict=True)),
            order=about.order,
            findings=about.applied_findings,
            recorded=about.recorded,
            judgement=about.judgement,
            left_out=about.left_out,
            removed=about.removed,
        ),
        findings=about.findings,
        provenance=about.provenance,
    )


def _region(kept: _KeptRegion, bits: NDArray[np.uint8]) -> Region:
    box = Box(start=kept.start, stop=kept.stop)
    count = int(np.prod(box.shape))
    if bits.size != (count + 7) // 8:
        raise ResultUnreadable(f"{KEPT}: a structure of it is incomplete.")
    mask = np.unpackbits(bits, count=count).astype(np.bool_).reshape(box.shape)
    return Region(organ=kept.organ, box=box, mask=mask, derivation=kept.derivation)
