"""Giving a bundle a guide: the networks of another bundle are copied into it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orgseg_node.errors import GuideUnsuitable
from orgseg_node.inference.bundles.bundle import ModelBundle, Part, file_sha256, verify_bundle
from orgseg_node.inference.bundles.manifest import Guide
from orgseg_node.inference.bundles.tables.guided_calibration import GuidedCalibration
from orgseg_node.inference.bundles.writing import replace_manifest, require_writable

_FOLDER = "guide"


def attach_guide(bundle: ModelBundle, source: ModelBundle, step: float | None = None) -> ModelBundle:
    """Copy the networks of another bundle into a bundle as its guide; a guide that it had is replaced.

    Only networks that find organs of the bundle are copied. The guide is not used before it is calibrated.

    Parameters
    ----------
    bundle : to change; if it is interrupted, `verify_bundle` reports it
    source : the bundle with the networks of the guide
    step : step of its tiles as a fraction of the patch, 0 to 1; None for that of its bundle. A guide need not
        be exact: at 1 it has up to eight times fewer tiles than at 0.5

    Returns
    -------
    the changed bundle, which has another hash

    Raises
    ------
    GuideUnsuitable
        If it finds no organ of the bundle.
    BundleHashMismatch
        If a file of one of the bundles is not the one that was imported.
    DiskFull, StorageError
        If the folder of the bundle cannot be written.
    """
    require_writable(bundle)
    verify_bundle(bundle)
    verify_bundle(source)
    organs = set(bundle.manifest.organs)
    parts = [part for part in source.manifest.parts if organs.intersection(part.labels.values())]
    if not parts:
        raise GuideUnsuitable(f"'{source.manifest.name}' finds no organ of '{bundle.manifest.name}'.")
    manifest = bundle.manifest
    files = {name: hash_ for name, hash_ in manifest.files.items() if not _is_old(name, manifest.guide)}
    copies = []
    for number, part in enumerate(parts):
        copy = replace(part, folder=f"{_FOLDER}/{source.sha256[:12]}-{number}")
        files |= _copy(source, part, bundle.path, copy)
        copies.append(copy)
    guide = Guide(
        name=source.manifest.name,
        version=source.manifest.version,
        sha256=source.sha256,
        preprocessing=source.manifest.preprocessing,
        mirroring=source.manifest.mirroring,
        tile_step_size=source.manifest.tile_step_size if step is None else step,
        parts=tuple(copies),
    )
    changed = replace_manifest(bundle, replace(manifest, guide=guide, files=files))
    _remove_old(bundle, {copy.folder for copy in copies})
    return changed


def allow_guide(bundle: ModelBundle, calibration: GuidedCalibration) -> ModelBundle:
    """Write the calibration of its guide into a bundle, in one step.

    Returns
    -------
    the changed bundle, which has another hash

    Raises
    ------
    GuideUnsuitable
        If the bundle has no guide.
    StorageError
        If the folder of the bundle cannot be written.
    """
    guide = bundle.manifest.guide
    if guide is None:
        raise GuideUnsuitable(f"'{bundle.manifest.name}' has no guide.")
    return replace_manifest(bundle, replace(bundle.manifest, guide=replace(guide, calibration=calibration)))


def _copy(source: ModelBundle, part: Part, target: Path, copy: Part) -> dict[str, str]:
    """Copy the files of a network; their hashes by path."""
    (target / copy.folder).mkdir(parents=True, exist_ok=True)
    old = (part.plans, part.dataset, *part.weights)
    new = (copy.plans, copy.dataset, *copy.weights)
    for one, other in zip(old, new, strict=True):
        shutil.copyfile(source.path / one, target / other)
    return {name: file_sha256(target / name) for name in new}


def _is_old(name: str, guide: Guide | None) -> bool:
    return guide is not None and any(name.startswith(f"{part.folder}/") for part in guide.parts)


def _remove_old(bundle: ModelBundle, kept: Sequence[str] | set[str]) -> None:
    """Remove the files of the guide that was replaced; what cannot be removed does no harm."""
    guide = bundle.manifest.guide
    for part in guide.parts if guide else ():
        if part.folder not in kept:
            shutil.rmtree(bundle.path / part.folder, ignore_errors=True)
