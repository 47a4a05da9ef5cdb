"""Writes the commissioning kit: CT, structure sets, the table of true volumes and instructions.

The files are not written durably: every run gives the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset

from orgseg_node.core.contours import Holes, trace
from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.kit.phantom import write_phantom
from orgseg_node.dicom.kit.shapes import kit_label_map
from orgseg_node.dicom.kit.sheet import sheet
from orgseg_node.dicom.kit.volumes import Volumes, as_csv, volumes_of
from orgseg_node.dicom.objects.provenance import ModelVersion, Provenance
from orgseg_node.dicom.objects.rtstruct import prove, write_rtstruct
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.dicom.tps.tps import GENERIC, PROFILES, TpsProfile, require_valid

MANY_POINTS: Final = 4000
"""The kit contains longer contours than the node ever sends; they still keep the limit in bytes."""

_CREATED: Final = datetime(2024, 1, 1, 12, tzinfo=UTC)
_MODEL: Final = ModelVersion(name="drawn by rule", version="1", sha256="0" * 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What was written.

    Attributes
    ----------
    ct : the slices
    structure_sets : RTSTRUCT files by name, such as ``keyhole`` or ``eclipse``
    volumes : the true volumes
    """

    ct: tuple[Path, ...]
    structure_sets: Mapping[str, Path]
    volumes: tuple[Volumes, ...]


def write_kit(folder: Path) -> Kit:
    """Write the kit; every run gives the same files.

    Parameters
    ----------
    folder : created if missing; must not contain another CT

    Returns
    -------
    the written files: ``CT/``, ``RTSTRUCT_*.dcm``, ``volumes.csv`` and ``README.md``

    Raises
    ------
    ProofFailed
        If a structure set, read again, does not equal the label map.
    ObjectInvalid
        If one breaks the standard or its profile.
    """
    label_map = kit_label_map()
    ct = write_phantom(folder / "CT", label_map)
    series = read_series(folder / "CT")
    profiles = kit_profiles()
    paths = {}
    for name, profile in profiles.items():
        paths[name] = folder / f"RTSTRUCT_{name}.dcm"
        _structure_set(name, profile, label_map, series).save_as(paths[name], enforce_file_format=True)
    polygons = _polygons(paths["keyhole"])
    rows = tuple(volumes_of(n, label_map, polygons[organ.name]) for n, organ in label_map.organs.items())
    (folder / "volumes.csv").write_text(as_csv(rows), encoding="utf-8")
    written_for = {name: profile.name for name, profile in profiles.items()}
    (folder / "README.md").write_text(sheet(rows, written_for), encoding="utf-8")
    return Kit(ct=tuple(ct), structure_sets=paths, volumes=rows)


def kit_profiles() -> dict[str, TpsProfile]:
    """The profile of each structure set: one for each kind of holes, then each profile of the node."""
    encodings = {str(holes): replace(GENERIC, holes=holes, max_points=MANY_POINTS) for holes in Holes}
    return encodings | dict(PROFILES)


def _structure_set(name: str, profile: TpsProfile, label_map: LabelMap, series: CtSeries) -> FileDataset:
    """One structure set, proven, with a name that identifies it in a list."""
    provenance = Provenance(
        job_id=f"commissioning kit {name}",
        created=_CREATED,
        models=(_MODEL,),
        software_version="commissioning kit",
    )
    dataset = write_rtstruct(trace(label_map, profile.tracing), series, provenance, profile)
    title = f"KIT {name.upper()}"
    dataset.StructureSetLabel = title
    dataset.StructureSetName = dataset.SeriesDescription = f"{title}, commissioning kit"
    prove(dataset, label_map, series, profile=profile)
    require_valid(dataset, profile)
    return dataset


def _polygons(path: Path) -> dict[str, list[FloatArray]]:
    """(N, 2) points in mm of the contours in an axial structure set, by ROI name."""
    dataset = dcmread(path)
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.StructureSetROISequence}
    return {
        names[int(roi.ReferencedROINumber)]: [
            np.reshape(np.asarray(contour.ContourData, dtype=np.float64), (-1, 3))[:, :2]
            for contour in roi.ContourSequence
        ]
        for roi in dataset.ROIContourSequence
    }
