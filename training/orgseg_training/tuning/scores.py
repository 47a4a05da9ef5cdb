"""The old and the new bundle on the validation scans, through the node's own body contour and engine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from orgseg_node.core.body import find_body
from orgseg_node.core.organs import OrganTable
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_training.datasets.case import Mask, OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.evaluation.predictions import Scoring
from orgseg_training.evaluation.results import CaseScore
from orgseg_training.evaluation.scoring import read_tolerances
from orgseg_training.nnunet.run import Machine
from orgseg_training.shipped import training_config

OLD: Final = "old"
NEW: Final = "new"
VALIDATION: Final = "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganRow:
    """One organ in the validation scans.

    Attributes
    ----------
    organ : key of the organ table
    scans : number of scans in which it was drawn
    old, new : mean Dice; None if the old bundle does not have the organ, or it was drawn in no scan
    missed : number of scans in which the new bundle does not find it
    """

    organ: str
    scans: int
    old: float | None
    new: float | None
    missed: int


def score_bundle(  # noqa: PLR0913  # a bundle on scans of a machine, and its listener
    bundle: ModelBundle,
    cases: Sequence[StoredCase],
    table: OrganTable,
    machine: Machine,
    *,
    model: str,
    organs: Sequence[str],
    on_case: Callable[[], None] = lambda: None,
) -> list[CaseScore]:
    """Run a bundle on scans and score its organs that were drawn, or are known to be outside the scan.

    Parameters
    ----------
    bundle : the networks
    cases : the scans
    table : the organ table
    machine : what the networks run on
    model : `OLD` or `NEW`
    organs : that are scored, as far as the bundle has them
    on_case : called after every scan
    """
    settings = InferenceSettings(device=machine.device, threads=machine.threads)
    predictor = load_predictor(bundle, table, settings)
    tolerances = read_tolerances(training_config("tolerances.toml"), table)
    scoring = Scoring(model=model, subset=VALIDATION, tolerances=tolerances)
    own = [organ for organ in organs if organ in bundle.manifest.organs]
    scores: list[CaseScore] = []
    for case in cases:
        if any(case.state(organ) is not OrganState.NOT_DRAWN for organ in own):
            volume = case.volume()
            found = predictor.predict(volume, find_body(volume), lambda _done, _doing: None).label_map
            scores += scoring.compare(case, found, _references(case, own), volume.grid.spacing_mm)
        on_case()
    return scores


def organ_rows(scores: Sequence[CaseScore], organs: Sequence[str]) -> tuple[OrganRow, ...]:
    """The mean of each organ by the old and the new bundle.

    Parameters
    ----------
    scores : of both bundles
    organs : in the order of the rows
    """
    rows = []
    for organ in organs:
        own = [score for score in scores if score.organ == organ and score.status.is_scored]
        new = [score.value("dsc") for score in own if score.model == NEW]
        old = [score.value("dsc") for score in own if score.model == OLD]
        rows.append(
            OrganRow(
                organ=organ,
                scans=len(new),
                old=_mean(old),
                new=_mean(new),
                missed=sum(value == 0 for value in new),
            )
        )
    return tuple(rows)


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return round(statistics.fmean(known), 4) if known else None


def _references(case: StoredCase, organs: Sequence[str]) -> Iterator[tuple[str, Mask]]:
    empty: Mask | None = None
    for organ in organs:
        state = case.state(organ)
        if state is OrganState.DRAWN:
            yield organ, case.mask(organ)
        elif state is OrganState.OUTSIDE:
            empty = np.zeros(case.volume().grid.shape, np.bool_) if empty is None else empty
            yield organ, empty
