"""The bundles of a fine-tuning: one of each fold for measurements, and the one for the node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from orgseg_node.core.organs import OrganTable
from orgseg_node.durable import make_folder
from orgseg_node.errors import InputError
from orgseg_node.inference.bundles.anatomy import AnatomyCase, learn_anatomy, replace_anatomy
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.references import read_reference
from orgseg_node.inference.bundles.training_cases import TrainingCase, training_cases
from orgseg_node.inference.bundles.writing import BundleDraft, CopiedPart, PartDraft, export_trained
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.nnunet.run import CONFIGURATION
from orgseg_training.tuning.folds import Fold
from orgseg_training.tuning.request import BundleTexts, TuneFolder, TuneRequest

_MOST_CASES: Final = 200  # more cases change the reference little
_PART_NAME: Final = "tuned"


def write_fold_bundle(request: TuneRequest, folder: TuneFolder, folds: Sequence[int]) -> ModelBundle:
    """The bundle of the networks that were not trained on certain scans; one that is there is opened.

    Parameters
    ----------
    request : what was asked
    folder : with the trained folds
    folds : numbers of the folds, from 0

    Raises
    ------
    ModelNotImportable
        If a fold is not trained yet.
    """
    target = folder.fold_bundle(folds[0])
    if target.is_dir():
        return open_bundle(target)
    card = "Made for the measurements of a fine-tuning."
    return _write(replace(request, stay=()), folder, folds, target, card=card)


def write_bundle(
    request: TuneRequest,
    folder: TuneFolder,
    target: Path,
    *,
    card: str,
    priorities: Mapping[str, float],
) -> ModelBundle:
    """The bundle of all folds, with the other networks of the old bundle as they are.

    Parameters
    ----------
    request : what was asked
    folder : with the trained folds
    target : folder of the bundle, which must not exist
    card : the model card
    priorities : Dice by organ; where organs of two networks overlap, the higher one gets the voxel

    Raises
    ------
    BundleExists
        If the target exists.
    """
    return _write(request, folder, range(request.folds), target, card=card, priorities=priorities)


def _write(  # noqa: PLR0913  # what a bundle is made of
    request: TuneRequest,
    folder: TuneFolder,
    folds: Sequence[int],
    target: Path,
    *,
    card: str,
    priorities: Mapping[str, float] | None = None,
) -> ModelBundle:
    start = request.start
    old = start.bundle.manifest
    known = {**old.priorities, **(priorities or {})}
    part = PartDraft(
        folder=folder.nnunet.trained(folder.dataset),
        label_map={n: organ for n, organ in enumerate(start.organs, 1) if organ not in request.stay},
        priority={organ: known[organ] for organ in start.organs if organ in known.keys() - set(request.stay)},
        folds=tuple(folds),
        configuration=CONFIGURATION,
        name=_PART_NAME,
    )
    texts = request.texts or BundleTexts(
        title=f"{old.title}, tuned at {request.site}",
        intended_use=old.intended_use,
        trained_on=f"{old.trained_on} Then contours of the site {request.site}.",
        licence=f"{old.licence}; contours of the site {request.site}",
    )
    draft = BundleDraft(
        name=request.name,
        version=request.version,
        **asdict(texts),
        card=card,
        preprocessing=old.preprocessing,
        mirroring=old.mirroring,
        tile_step_size=old.tile_step_size,
    )
    left = start.parts_left(request.stay)
    copied = [CopiedPart(bundle=start.bundle, part=part, labels=labels) for part, labels in left]
    make_folder(target.parent)
    return export_trained([part], draft, target, copied=copied, half_precision=True)


def add_reference(
    bundle: ModelBundle, start: ModelBundle, cases: Sequence[StoredCase], table: OrganTable
) -> tuple[ModelBundle, bool]:
    """The bundle with the anatomy of the site's contours; without one if there are too few scans.

    Parameters
    ----------
    bundle : of a fine-tuning
    start : the bundle that it was tuned from
    cases : the scans it was trained and validated on
    table : the organ table

    Returns
    -------
    The bundle, and whether it has a reference anatomy.
    """
    source = f"Training contours: {bundle.manifest.trained_on} Licence: {bundle.manifest.licence}"
    try:
        learned = learn_anatomy(
            _anatomy_cases(cases, bundle.manifest.organs), source, table, known=read_reference(start).scan
        )
    except InputError:
        return bundle, False
    return replace_anatomy(bundle, learned), True


def trained_cases(
    request: TuneRequest, bundle: ModelBundle, cases: Sequence[StoredCase], folds: Sequence[Fold]
) -> dict[str, tuple[TrainingCase, ...]]:
    """What every network of a new bundle was trained on, for the gate: now, and before that.

    Parameters
    ----------
    request : with the old bundle, whose own training cases remain those of the networks that came from it
    bundle : the new one
    cases : the scans for training and validation
    folds : of the new network
    """
    start = request.start
    known = training_cases(start.bundle)
    held_out = {key: str(number) for number, fold in enumerate(folds) for key in fold["val"]}
    now = [
        TrainingCase(
            voxels_sha256=case.voxels_sha256,
            coarse_sha256=case.coarse_sha256,
            patient=case.patient,
            held_out=held_out.get(case.key),
        )
        for case in cases
    ]
    tuned, *copied = bundle.manifest.parts
    found = {tuned.folder: (*_with_past(now, known.get(start.part.folder, ()), start.part.folds),)}
    for part, (old, _) in zip(copied, start.parts_left(request.stay), strict=True):
        if old.folder in known:
            found[part.folder] = tuple(known[old.folder])
    return found


def _with_past(
    now: Sequence[TrainingCase], past: Sequence[TrainingCase], old_folds: Sequence[str]
) -> Iterator[TrainingCase]:
    """The cases of a network and of the one it started from; held out of both trainings, or not at all."""
    for case in now:
        seen = [old.held_out for old in past if _is_related(case, old)]
        fold = case.held_out
        if fold is not None and any(one != old_folds[int(fold) % len(old_folds)] for one in seen):
            yield replace(case, held_out=None)
        else:
            yield case
    hashes = {case.voxels_sha256 for case in now}
    yield from (replace(old, held_out=None) for old in past if old.voxels_sha256 not in hashes)


def _is_related(one: TrainingCase, other: TrainingCase) -> bool:
    return (
        one.voxels_sha256 == other.voxels_sha256
        or one.coarse_sha256 == other.coarse_sha256
        or (bool(one.patient) and one.patient == other.patient)
    )


def _anatomy_cases(cases: Sequence[StoredCase], organs: Sequence[str]) -> Iterator[AnatomyCase]:
    step = max(1, -(-len(cases) // _MOST_CASES))
    for case in cases[::step]:
        masks = {organ: case.mask(organ) for organ in organs if organ in case.drawn_whole}
        if masks:
            yield AnatomyCase(volume=case.volume(), masks=masks, age_years=case.age_years)
