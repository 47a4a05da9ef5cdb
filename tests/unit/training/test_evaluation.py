"""Scores are taken of drawn organs only, through the node's own protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.body import Body
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.predictor import ModelIdentity, Prediction, ProgressCallback
from orgseg_training.datasets.nifti import read_labels
from orgseg_training.datasets.openkbp import LABELS, read_cases
from orgseg_training.starter_evaluation import evaluate, summary_table, write_scores
from tests.support.ct.openkbp_tree import write_openkbp_tree


@dataclass(frozen=True)
class FromFile:
    """A predictor that returns the drawn labels, the larynx moved by one slice."""

    labels: Path
    organs: OrganTable

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        return ()

    def predict(self, volume: Volume, body: Body, progress: ProgressCallback) -> Prediction:
        labels = read_labels(self.labels)
        larynx = labels == LABELS["larynx"]
        labels[larynx] = 0
        labels[np.roll(larynx, 1, axis=0)] = LABELS["larynx"]
        organs = {number: self.organs[key] for key, number in LABELS.items()}
        label_map = LabelMap(grid=volume.grid, labels=labels, organs=organs)
        return Prediction(label_map=label_map, models=(), method="whole", device="cpu")


def test_scores_and_their_table(tmp_path: Path, organ_table: OrganTable) -> None:
    organs = ("brainstem", "larynx")
    case = read_cases(write_openkbp_tree(tmp_path, {"OKBP_001": organs}))[0]
    scores = {s.organ: s for s in evaluate(FromFile(case.labels, organ_table), [case])}
    assert set(scores) == set(organs), "what was not drawn is not scored"
    assert scores["brainstem"].dice == 1.0
    assert 0.5 < scores["larynx"].dice < 1.0
    assert scores["larynx"].volume_ml == pytest.approx(scores["larynx"].reference_ml)
    assert "| larynx | 1 |" in summary_table(tuple(scores.values()))
    write_scores(tuple(scores.values()), tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text().startswith("case,organ,dice,volume_ml,reference_ml\n")
