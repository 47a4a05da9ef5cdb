"""Measurements of a scan and its contours, on which the checks work."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
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
_METHOD_VERSION: Final = "3"  # measurements of another version are made again
_HASH_FORM: Final = "2"  # of `content_hash`, with which cases are locked: never change it lightly


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganMeasurements:
    """One organ that was drawn.

    Attributes
    ----------
    volume_ml, mean_hu : of its voxels
    complete : whether it touches no border of the scan, so that the volume is that of the organ
    runs : number of runs of consecutive slices with contours
    gap_slices : slices without contour between these runs
    findings : findings of the node for such an organ in a result: cut off, in pieces
    """

    volume_ml: float
    mean_hu: float
    complete: bool
    runs: int
    gap_slices: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanMeasurements:
    """One scan.

    Attributes
    ----------
    content_hash : hash of the measured files
    shape : slices, rows, columns
    spacing_mm : slice distance and pixel size, in this order
    repeated : number of slices with tissue that equal the previous slice in every voxel
    empty : number of slices of air between slices with tissue
    organs : organs that were drawn, by key
    anatomy : findings of impossible anatomy
    """

    content_hash: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    repeated: int
    empty: int
    organs: Mapping[str, OrganMeasurements]
    anatomy: tuple[Finding, ...]


_ADAPTER: Final = TypeAdapter(ScanMeasurements)


def measure(
    volume: Volume,
    masks: Mapping[str, Mask],
    organs: OrganTable,
    content_hash: str = "",
    in_part: Collection[str] = (),
) -> ScanMeasurements:
    """Measure everything that the checks need of a scan.

    Parameters
    ----------
    volume : CT in HU
    masks : (K, J, I) bool of each organ that was drawn, none empty; they may overlap
    organs : the organ table
    content_hash : hash of CT and masks
    in_part : organs that were drawn only in a part of the scan, whose volumes say nothing

    Raises
    ------
    ValueError
        If a mask has another shape than the CT.
    OrganUnknown
        If an organ is not in the table.
    """
    found = anatomy_findings(masks, volume.grid, organs=organs)
    anatomy = tuple(one for one in found if one.code != "ANATOMY_VOLUME" or one.organ not in in_part)
    tissue: NDArray[np.bool_] = np.asarray((volume.hu > _TISSUE_HU).any(axis=(1, 2)))
    return ScanMeasurements(
        content_hash=content_hash,
        shape=volume.grid.shape,
        spacing_mm=volume.grid.spacing_mm,
        repeated=_repeated(volume.hu, tissue),
        empty=_runs(tissue)[1],
        organs={
            key: _measure_organ(volume, mask, organs[key], is_whole=key not in in_part)
            for key, mask in sorted(masks.items())
        },
        anatomy=anatomy,
    )


def _measure_organ(volume: Volume, mask: Mask, organ: Organ, *, is_whole: bool) -> OrganMeasurements:
    grid = volume.grid
    box = Box.around(mask)
    inside = mask[box.slices]
    runs, gap_slices = _runs(np.asarray(inside.any(axis=(1, 2))))
    alone = LabelMap(grid=grid, labels=mask.view(np.uint8), organs={1: organ})
    return OrganMeasurements(
        volume_ml=float(np.count_nonzero(inside) * grid.voxel_ml),
        mean_hu=float(volume.hu[box.slices][inside].mean(dtype=np.float64)),
        complete=is_whole
        and min(box.start) > 0
        and all(e < n for e, n in zip(box.stop, grid.shape, strict=True)),
        runs=runs,
        gap_slices=gap_slices,
        findings=check_labels(alone),
    )


def _runs(on: NDArray[np.bool_]) -> tuple[int, int]:
    """Number of runs of true, and of false values between the first and the last run."""
    runs = int(ndimage.label(on)[1])
    places = np.flatnonzero(on)
    return runs, int(places[-1] - places[0] + 1 - places.size) if places.size else 0


def _repeated(hu: HuArray, tissue: NDArray[np.bool_]) -> int:
    return sum(bool(tissue[k]) and np.array_equal(hu[k], hu[k - 1]) for k in range(1, len(hu)))


def measurement_hash(case: StoredCase) -> str:
    """What measurements depend on: the files of a scan, and how it is measured. Raises StorageError."""
    return f"{_METHOD_VERSION}-{content_hash(case)}"


def content_hash(case: StoredCase) -> str:
    """Hash of all masks of a scan, of the names of its organs, and of its voxels.

    Raises
    ------
    StorageError
        If a file cannot be read.
    """
    summed = hashlib.sha256(f"{_HASH_FORM} {case.voxels_sha256} {sorted(case.drawn)}".encode())
    known = {organ: part for organ, part in case.known_slices.items() if organ in case.drawn}
    summed.update(repr(sorted(known.items())).encode() if known else b"")
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


def read_measurements(file: Path, expected_hash: str) -> ScanMeasurements | None:
    """Earlier measurements of the same files; None if there are none that can be used."""
    try:
        measured = _ADAPTER.validate_python(read_json(file), strict=False)
    except (StorageError, ValidationError):
        return None
    return measured if measured.content_hash == expected_hash else None


def write_measurements(file: Path, measured: ScanMeasurements) -> None:
    """Write measurements. Raises StorageError."""
    write_json(file, _ADAPTER.dump_python(measured, mode="json"))
