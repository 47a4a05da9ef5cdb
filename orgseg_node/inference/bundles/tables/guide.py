"""The table of a manifest that describes the guide: networks that find the organs before the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orgseg_node.inference.bundles.fields import is_number, is_sha256, is_text, key_problems
from orgseg_node.inference.bundles.tables.guided_calibration import (
    GuidedCalibration,
    guided_calibration_document,
    guided_calibration_problems,
    read_guided_calibration,
)
from orgseg_node.inference.bundles.tables.network import (
    Part,
    Preprocessing,
    part_document,
    part_problems,
    preprocessing_document,
    preprocessing_problems,
    read_part,
)

_TEXTS = ("name", "version")
_TOP = {*_TEXTS, "sha256", "mirroring", "tile_step_size", "preprocessing", "parts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """Networks that find organs first, coarsely or all at once, so that others search only where these are.

    Attributes
    ----------
    name, version, sha256 : of the bundle that its networks were copied from
    preprocessing : preparation of the CT for its networks
    mirroring : average over mirrored copies
    tile_step_size : step of its sliding window as a fraction of the patch, 0 to 1
    parts : its networks
    calibration : measured agreement of guided with unguided runs; None if it was not measured
    """

    name: str
    version: str
    sha256: str
    preprocessing: Preprocessing
    mirroring: bool
    tile_step_size: float
    parts: tuple[Part, ...]
    calibration: GuidedCalibration | None = None

    @property
    def organs(self) -> tuple[str, ...]:
        """Key of every organ that it finds, each once."""
        return tuple(dict.fromkeys(key for part in self.parts for key in part.labels.values()))


def guide_document(guide: Guide) -> dict[str, Any]:
    """The guide as a table of the manifest."""
    document: dict[str, Any] = {
        "name": guide.name,
        "version": guide.version,
        "sha256": guide.sha256,
        "mirroring": guide.mirroring,
        "tile_step_size": float(guide.tile_step_size),
        "preprocessing": preprocessing_document(guide.preprocessing),
        "parts": [part_document(part) for part in guide.parts],
    }
    if guide.calibration is not None:
        document["calibration"] = guided_calibration_document(guide.calibration)
    return document


def read_guide(row: Mapping[str, Any]) -> Guide:
    """The guide from its table in a manifest, for which `guide_problems` returned nothing."""
    return Guide(
        name=row["name"],
        version=row["version"],
        sha256=row["sha256"],
        preprocessing=Preprocessing(**row["preprocessing"]),
        mirroring=row["mirroring"],
        tile_step_size=float(row["tile_step_size"]),
        parts=tuple(read_part(part) for part in row["parts"]),
        calibration=read_guided_calibration(row["calibration"]) if "calibration" in row else None,
    )


def guide_problems(row: Any, files: Any) -> list[str]:
    """All problems of the table, as sentences.

    Parameters
    ----------
    row : the table
    files : the table of files of the manifest, which must have those of the guide
    """
    if not isinstance(row, dict):
        return ["guide must be a table"]
    found = key_problems("guide.", row, _TOP, {"calibration"})
    found += [f"guide.{name} must be text" for name in _TEXTS if name in row and not is_text(row[name])]
    if "sha256" in row and not is_sha256(row["sha256"]):
        found.append("guide.sha256: not a SHA-256")
    if not isinstance(row.get("mirroring", False), bool):
        found.append("guide.mirroring must be true or false")
    if not is_number(row.get("tile_step_size", 1)) or not 0 < row.get("tile_step_size", 1) <= 1:
        found.append("guide.tile_step_size must be above 0 and at most 1")
    found += preprocessing_problems(row.get("preprocessing", {}), "guide.")
    if "calibration" in row:
        found += guided_calibration_problems(row["calibration"])
    parts = row.get("parts", [])
    if not isinstance(parts, list) or not parts:
        return [*found, "guide.parts must hold at least one [[guide.parts]]"]
    for number, part in enumerate(parts, start=1):
        found += [f"guide.parts {number}: {problem}" for problem in part_problems(part, files)]
    return found
