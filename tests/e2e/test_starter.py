"""The bundle that comes with the node is complete, small, and as accurate as its card states."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from orgseg_node.cli.ct.demo_patient import clinical_masks, demo_ct
from orgseg_node.core.body import find_body
from orgseg_node.core.metrics import dice
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle, verify_bundle
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.shipped import shipped_bundles
from orgseg_training.datasets.openkbp import LABELS, source_cases
from orgseg_training.evaluation.predictions import Scoring

AIM = {
    "mandible": 0.85,
    "brainstem": 0.80,
    "parotid_left": 0.75,
    "parotid_right": 0.75,
    "spinal_cord": 0.75,
    "larynx": 0.70,
    "esophagus": 0.60,
}


@pytest.fixture(scope="module")
def starter() -> ModelBundle:
    return open_bundle(shipped_bundles() / "starter-hn")


def test_it_is_complete_small_and_without_pickles(starter: ModelBundle) -> None:
    verify_bundle(starter)
    files = [path for path in starter.path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 15_000_000
    assert {path.suffix for path in files} == {".toml", ".md", ".json", ".safetensors"}
    assert set(starter.manifest.organs) == set(LABELS)


def test_it_states_its_limits(starter: ModelBundle) -> None:
    assert "Not for clinical use" in starter.manifest.intended_use
    assert "unreviewed" in starter.card
    assert not starter.manifest.mirroring, "left and right are labels of their own"


@pytest.mark.slow  # the test of the demonstration shows it with every commit, by the whole way
def test_it_finds_every_organ_of_the_demonstration_patient(
    starter: ModelBundle, organ_table: OrganTable
) -> None:
    volume = read_volume(read_series(demo_ct()))
    predictor = load_predictor(starter, organ_table, InferenceSettings(device="cpu"))
    found = predictor.predict(volume, find_body(volume), lambda _part, _what: None).label_map
    truth = clinical_masks(volume.grid)
    for label, organ in found.organs.items():
        assert dice(found.mask(label), truth[organ.key]) > 0.5, organ.key


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_is_as_accurate_on_the_locked_patients_as_its_card_states(
    starter: ModelBundle, organ_table: OrganTable, shared_data: Path
) -> None:
    cases = source_cases("openkbp", shared_data / "openkbp_head_neck", {})
    locked = [case for case in cases if case.test]
    predictor = load_predictor(starter, organ_table, InferenceSettings(device="cpu"))
    scores = list(Scoring(model="starter-hn").predict_and_compare(predictor, locked))
    means = {o: statistics.mean(s.value("dsc") for s in scores if s.organ == o) for o in AIM}
    card = dict(re.findall(r"^\| (\w+) \| \d+ \| ([\d.]+) \|", starter.card, re.MULTILINE))
    for organ, mean in means.items():
        print(f"{organ:14s} {mean:.3f} (aim {AIM[organ]:.2f})")  # noqa: T201 - the numbers are the point
        assert mean == pytest.approx(float(card[organ]), abs=0.005)
