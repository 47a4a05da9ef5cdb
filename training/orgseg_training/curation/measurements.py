"""What is measured of a scan and its contours before anybody judges them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy import ndimage

from orgseg_node.core.checks import Finding, check_labels
from orgseg_node.core.geometry import Box
from orgseg_node.core.organs import Organ, OrganTable
from orgseg_node.core.volume import HuArray, LabelMap, Mask, Volume
from orgseg_node.errors import StorageError
from orgseg_training.datasets.anatomy_check import anatomy_findings
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.durable import read_json, write_json

_TISSUE_HU: Final = -500
_MEASURED: Final = "1"  # facts measured in another way are measured again


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganFacts:
    """One organ that was drawn.

    Attributes
    ----------
    volume_ml, mean_hu : of its voxels
    whole : whether it lies inside the scan, so that its volume is that of the organ
    stretches : runs of slices, from the first to the last, on which it is drawn
    skipped : slices between them on which it is not
    findings : what the node says of such an organ in a result: cut off, in pieces
    """

    volume_ml: float
    mean_hu: float
    whole: bool
    stretches: int
    skipped: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanFacts:
    """One scan.

    Attributes
    ----------
    made_of : hash of what was measured
    shape : slices, rows, columns
    spacing_mm : of them
    repeated : slices with tissue that are the same as the one before, voxel for voxel
    empty : slices of air between slices with tissue
    organs : what was drawn, by key
    anatomy : what no body has
    """

    made_of: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    repeated: int
    empty: int
    organs: Mapping[str, OrganFacts]
    anatomy: tuple[Finding, ...]


_ADAPTER: Final = TypeAdapter(ScanFacts)


def measure(volume: Volume, masks: Mapping[str, Mask], organs: OrganTable, made_of: str = "") -> ScanFacts:
    """Everything the checks need to know of a scan.

    Parameters
    ----------
    volume : CT in HU
    masks : (K, J, I) voxels of each organ that was drawn, none empty; they may overlap
    organs : the organ table
    made_of : hash of both

    Raises
    ------
    ValueError
        If a mask has another shape than the CT.
    OrganUnknown
        If the table does not have an organ.
    """
    anatomy = anatomy_findings(masks, volume.grid)
    tissue: NDArray[np.bool_] = np.asarray((volume.hu > _TISSUE_HU).any(axis=(1, 2)))
    return ScanFacts(
        made_of=made_of,
        shape=volume.grid.shape,
        spacing_mm=volume.grid.spacing_mm,
        repeated=_repeated(volume.hu, tissue),
        empty=_runs(tissue)[1],
        organs={key: _organ_facts(volume, mask, organs[key]) for key, mask in sorted(masks.items())},
        anatomy=anatomy,
    )


def _organ_facts(volume: Volume, mask: Mask, organ: Organ) -> OrganFacts:
    grid = volume.grid
    box = Box.around(mask)
    inside = mask[box.slices]
    stretches, skipped = _runs(np.asarray(inside.any(axis=(1, 2))))
    alone = LabelMap(grid=grid, labels=mask.view(np.uint8), organs={1: organ})
    return OrganFacts(
        volume_ml=float(np.count_nonzero(inside) * grid.voxel_ml),
        mean_hu=float(volume.hu[box.slices][inside].mean(dtype=np.float64)),
        whole=min(box.start) > 0 and all(e < n for e, n in zip(box.stop, grid.shape, strict=True)),
        stretches=stretches,
        skipped=skipped,
        findings=check_labels(alone),
    )


def _runs(on: NDArray[np.bool_]) -> tuple[int, int]:
    """How many runs of true there are, and how many places lie between the first and the last of them."""
    runs = int(ndimage.label(on)[1])
    places = np.flatnonzero(on)
    return runs, int(places[-1] - places[0] + 1 - places.size) if places.size else 0


def _repeated(hu: HuArray, tissue: NDArray[np.bool_]) -> int:
    return sum(bool(tissue[k]) and np.array_equal(hu[k], hu[k - 1]) for k in range(1, len(hu)))


def made_of(case: StoredCase) -> str:
    """Hash of all files of a scan that tell what was drawn, and of its voxels as they were taken in.

    Raises
    ------
    StorageError
        If a file cannot be read.
    """
    summed = hashlib.sha256(f"{_MEASURED} {case.voxels_sha256} {sorted(case.drawn)}".encode())
    for organ in sorted(case.drawn):
        try:
            summed.update((case.folder / "masks" / f"{organ}.nii.gz").read_bytes())
        except OSError as error:
            raise StorageError(f"{organ} of {case.key} cannot be read.") from error
    return summed.hexdigest()


def read_case(case: StoredCase) -> tuple[Volume, dict[str, Mask]]:
    """The voxels of a stored scan.

    Raises
    ------
    StorageError
        If a file is damaged, or a mask is empty or has another grid than the CT.
    """
    volume = case.volume()
    masks = {organ: case.mask(organ) for organ in sorted(case.drawn)}
    if not masks:
        raise StorageError(f"No organ is drawn in {case.key}.")
    for organ, mask in masks.items():
        if mask.shape != volume.grid.shape or not mask.any():
            raise StorageError(f"{organ} of {case.key} is empty or has another grid than the CT.")
    return volume, masks


def kept_facts(file: Path, made: str) -> ScanFacts | None:
    """Facts that were measured of the same files before; None where there are none that can be used."""
    try:
        facts = _ADAPTER.validate_python(read_json(file), strict=False)
    except (StorageError, ValidationError):
        return None
    return facts if facts.made_of == made else None


def keep_facts(file: Path, facts: ScanFacts) -> None:
    """Write facts. Raises StorageError."""
    write_json(file, _ADAPTER.dump_python(facts, mode="json"))
