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
from orgseg_training.datasets.openkbp import LABELS, source_cases
from orgseg_training.evaluation.predictions import Scoring
from orgseg_training.evaluation.results import read_cases, write_cases
from orgseg_training.evaluation.tables import dice_table
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
    data = write_openkbp_tree(tmp_path, {"OKBP_001": organs})
    predictor = FromFile(data / "labelsTr" / "OKBP_001.nii.gz", organ_table)
    scoring = Scoring(model="from file", subset="2")
    scores = {s.organ: s for s in scoring.predict_and_compare(predictor, source_cases("db", data, {}))}
    assert set(scores) == set(organs), "what was not drawn is not scored"
    assert {s.case for s in scores.values()} == {"db__OKBP_001"}
    assert scores["brainstem"].value("dsc") == 1.0
    assert 0.5 < scores["larynx"].value("dsc") < 1.0
    larynx = scores["larynx"].comparison
    assert larynx.prediction_ml == pytest.approx(larynx.reference_ml)
    assert "| larynx | 1 |" in dice_table(scores.values())
    write_cases(scores.values(), tmp_path / "scores.parquet")
    assert {s.organ: s for s in read_cases(tmp_path / "scores.parquet")} == scores
