"""The bundle of a training on data sets, measured once on the scans that were held out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from orgseg_node.core.organs import OrganTable
from orgseg_node.durable import write_durably
from orgseg_node.errors import BundleExists
from orgseg_node.inference.bundles.bundle import ModelBundle, file_sha256, open_bundle
from orgseg_node.inference.bundles.writing import replace_manifest
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.evaluation.delivery import LastScan
from orgseg_training.evaluation.predictions import Scoring
from orgseg_training.evaluation.results import CaseScore
from orgseg_training.evaluation.scoring import read_tolerances
from orgseg_training.evaluation.tables import dice_table
from orgseg_training.nnunet.run import Machine
from orgseg_training.shipped import training_config
from orgseg_training.tuning.data_sets import BundleSettings


class Published(Protocol):
    """What a file says of the bundle that comes of it."""

    @property
    def bundle(self) -> BundleSettings:
        """Name and texts."""

    @property
    def licence(self) -> str:
        """See `Manifest`."""

    @property
    def intended_use(self) -> str:
        """See `Manifest`."""


def score_held_out(
    bundle: ModelBundle, cases: Sequence[StoredCase], table: OrganTable, machine: Machine
) -> tuple[CaseScore, ...]:
    """The scores on scans that were held out, by the node's own body contour and predictor, without tidying.

    Parameters
    ----------
    bundle : of the training
    cases : the scans that were held out
    table : the organ table
    machine : what the networks run on
    """
    settings = InferenceSettings(device=machine.device, threads=machine.threads)
    predictor = load_predictor(bundle, table, settings)
    tolerances = read_tolerances(training_config("tolerances.toml"), table)
    scoring = Scoring(model=bundle.manifest.name, subset="test", tolerances=tolerances)
    scan = LastScan()
    scores: list[CaseScore] = []
    for case in cases:
        volume = scan.volume(case)
        found = predictor.predict(volume, scan.body(case), lambda _done, _doing: None).label_map
        masks = ((organ, case.mask(organ)) for organ in sorted(case.drawn & set(bundle.manifest.organs)))
        scores += scoring.compare(case, found, masks, volume.grid.spacing_mm)
    return tuple(scores)


def publish(file: Published, bundle: ModelBundle, scores: Sequence[CaseScore], target: Path) -> ModelBundle:
    """The bundle under its final name, with its scores in the model card.

    Parameters
    ----------
    file : what was asked
    bundle : of the training
    scores : of the scans that were held out
    target : folder of the bundle, which must not exist

    Raises
    ------
    BundleExists
        If the target exists.
    DiskFull, StorageError
        If it cannot be written.
    """
    if target.exists():
        raise BundleExists(f"'{target.name}' exists.")
    work = target.with_name(f".{target.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(bundle.path, work)
    manifest = bundle.manifest
    write_durably(work / manifest.card, card_of(file, manifest.organs, scores).encode(), mode=0o644)
    files = {**manifest.files, manifest.card: file_sha256(work / manifest.card)}
    replace_manifest(open_bundle(work), replace(manifest, name=file.bundle.name, files=files))
    work.rename(target)
    return open_bundle(target)


def card_of(file: Published, organs: Sequence[str], scores: Sequence[CaseScore]) -> str:
    """The model card.

    Parameters
    ----------
    file : what was asked
    organs : of the bundle
    scores : of the scans that were held out
    """
    settings = file.bundle
    limits = "".join(f"* {sentence}\n" for sentence in settings.limits)
    scans = len({score.case for score in scores})
    return f"""# {settings.title} {settings.version}

**{file.intended_use}**

{settings.trained_on}

Licence: {file.licence}

Contours are automatic and unreviewed; they become a plan's contours only when a person has approved them.

## What it finds

{", ".join(organs)}

## How good it is

Dice on {scans} scans that were held out before training and measured once, through the node's own body
contour and predictor, on the resolution of the data. An organ is counted only in the scans in which it was
drawn.

{dice_table(scores)}
{f"{chr(10)}## Limits{chr(10)}{chr(10)}{limits}" if limits else ""}"""
