"""The old and the new bundle on the validation scans, through the node's own body, engine and tidying."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.contouring.structures import apply_protocol
from orgseg_node.core.organs import OrganTable
from orgseg_node.durable import make_folder
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings, Predictor
from orgseg_training.datasets.case import Mask, OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.evaluation.delivery import NODE_PROTOCOL, LastScan, tidying_of
from orgseg_training.evaluation.predictions import Scoring
from orgseg_training.evaluation.results import CaseScore, read_cases, write_cases
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


class BundleScorer:
    """Runs the networks of a bundle that know certain organs, and scores these organs.

    Parameters
    ----------
    bundle : the networks; those that know none of the organs are not run
    model : `OLD` or `NEW`
    organs : that are scored, as far as the bundle has them
    table : the organ table
    machine : what the networks run on
    """

    def __init__(
        self, bundle: ModelBundle, model: str, organs: Sequence[str], table: OrganTable, machine: Machine
    ) -> None:
        self._bundle = networks_for(bundle, organs)
        self._organs = [organ for organ in organs if organ in bundle.manifest.organs]
        self._table = table
        self._settings = InferenceSettings(device=machine.device, threads=machine.threads)
        self._predictor: Predictor | None = None
        self._protocol = tidying_of(load_protocol(NODE_PROTOCOL))
        tolerances = read_tolerances(training_config("tolerances.toml"), table)
        self._scoring = Scoring(model=model, subset=VALIDATION, tolerances=tolerances)

    def score(self, case: StoredCase, scan: LastScan) -> list[CaseScore]:
        """The scores of the organs that were drawn in a scan, or are known to be outside it.

        Parameters
        ----------
        case : the scan
        scan : gives its volume and its body
        """
        organs = [organ for organ in self._organs if case.state(organ) is not OrganState.NOT_DRAWN]
        if not organs:
            return []
        if self._predictor is None:
            self._predictor = load_predictor(self._bundle, self._table, self._settings)
        volume, body = scan.volume(case), scan.body(case)
        found = self._predictor.predict(volume, body, lambda _done, _doing: None).label_map
        sent = apply_protocol(self._protocol, found, body.mask, self._table).label_map
        return list(self._scoring.compare(case, sent, _references(case, organs), volume.grid.spacing_mm))


def networks_for(bundle: ModelBundle, organs: Sequence[str]) -> ModelBundle:
    """The bundle with only those of its networks that know one of the organs.

    Parameters
    ----------
    bundle : with any number of networks
    organs : keys of the organ table
    """
    manifest = bundle.manifest
    parts = tuple(part for part in manifest.parts if set(part.labels.values()) & set(organs))
    return replace(bundle, manifest=replace(manifest, parts=parts))


def score_scans(
    scorers: Mapping[str, BundleScorer],
    cases: Sequence[StoredCase],
    folder: Path,
    on_run: Callable[[], None] = lambda: None,
) -> tuple[CaseScore, ...]:
    """The scores of scans by each bundle; those of an earlier, interrupted call are taken from the folder.

    Parameters
    ----------
    scorers : by the name of the file of their scores
    cases : the scans
    folder : in which the scores of every scan are kept
    on_run : called after every scan of every bundle
    """
    make_folder(folder)
    scan = LastScan()
    scores: list[CaseScore] = []
    for case in cases:
        for name, scorer in scorers.items():
            file = folder / f"{case.key}-{name}.parquet"
            if not file.is_file():
                write_cases(scorer.score(case, scan), file)
            scores += read_cases(file)
            on_run()
    return tuple(scores)


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
