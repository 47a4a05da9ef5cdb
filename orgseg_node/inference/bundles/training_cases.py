"""What the networks of a bundle were trained on, by hashes, in ``training_cases.json``.

With it a gate finds scans that a model was trained on, and which of its networks may contour them all the
same, because they were only validated on them. The file names no patient and no scan: it holds hashes of
voxels, and keyed hashes of patients that mean nothing without the key of the site.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from orgseg_node.durable import write_durably
from orgseg_node.errors import BundleInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, file_sha256, open_bundle
from orgseg_node.inference.bundles.fields import is_sha256, is_text
from orgseg_node.inference.bundles.manifest import MANIFEST, parse_manifest, render_manifest

TRAINING_CASES: Final = "training_cases.json"
_FORMAT: Final = "orgseg-training-cases/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCase:
    """A scan that networks of a part were trained on.

    Attributes
    ----------
    voxels_sha256, coarse_sha256 : hashes of its HU, exact and coarse; see the store of cases
    patient : keyed hash of the patient; empty if not known
    held_out : the fold whose network was validated on it and not trained on it; None if there is none
    """

    voxels_sha256: str
    coarse_sha256: str
    patient: str = ""
    held_out: str | None = None


TrainingCases = Mapping[str, Sequence[TrainingCase]]
"""The scans of each part of a bundle, by the folder of the part."""


def add_training_cases(bundle: ModelBundle, cases: TrainingCases) -> ModelBundle:
    """Write into a bundle what its networks were trained on.

    Parameters
    ----------
    bundle : newly made
    cases : of each part that was trained; parts that are not named are unknown

    Returns
    -------
    the changed bundle, which has another hash

    Raises
    ------
    DiskFull, NotDurable
        If the folder of the bundle cannot be written.
    """
    parts = {folder: [asdict(case) for case in of_part] for folder, of_part in sorted(cases.items())}
    text = json.dumps({"format": _FORMAT, "parts": parts}, separators=(",", ":"), sort_keys=True)
    write_durably(bundle.path / TRAINING_CASES, f"{text}\n".encode(), mode=0o644)
    files = {**bundle.manifest.files, TRAINING_CASES: file_sha256(bundle.path / TRAINING_CASES)}
    content = render_manifest(replace(bundle.manifest, files=files))
    parse_manifest(content)  # a check only: raises if the new manifest cannot be parsed
    write_durably(bundle.path / MANIFEST, content, mode=0o644)
    return open_bundle(bundle.path)


def training_cases(bundle: ModelBundle) -> TrainingCases:
    """The scans that each part was trained on; parts are missing of which nothing is known.

    Raises
    ------
    BundleInvalid
        If the file cannot be read.
    """
    if TRAINING_CASES not in bundle.manifest.files:
        return {}
    try:
        document = json.loads((bundle.path / TRAINING_CASES).read_bytes())
        parts: Mapping[str, Any] = {_FORMAT: document["parts"]}[document["format"]]
        return {str(folder): tuple(_case(row) for row in rows) for folder, rows in parts.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleInvalid(f"{TRAINING_CASES} of '{bundle.manifest.name}' cannot be read.") from error


def _case(row: Mapping[str, Any]) -> TrainingCase:
    case = TrainingCase(**row)
    if not all(is_sha256(value) for value in (case.voxels_sha256, case.coarse_sha256)):
        raise ValueError("hash")
    if case.held_out is not None and not is_text(case.held_out):
        raise ValueError("fold")
    return case
