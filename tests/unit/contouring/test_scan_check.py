"""What follows from the judgement of a scan: it is held, contoured in part, or without some organs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.contouring.scan_check import ScanDecision, ScanRules, check_scan, predict_part
from orgseg_node.core.body import Body
from orgseg_node.core.checks import Level
from orgseg_node.core.geometry import Box
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.scan.reference import ScanReference, learn_scan_reference
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.errors import RegionNotTrained, ScanDoubtful, SidesDoubtful
from orgseg_node.inference.predictor import ModelIdentity, Prediction, ProgressCallback
from tests.support.ct.torsos import Torso
from tests.support.processes.once import once

TORSO = ModelIdentity(name="torso", version="1", sha256="1" * 64, intended_use="test")
OTHER = ModelIdentity(name="other", version="1", sha256="2" * 64, intended_use="test")


@pytest.fixture(scope="module")
def reference() -> ScanReference:
    def learn(_folder: Path) -> ScanReference:
        found = learn_scan_reference([Torso(seed=seed).training_scan() for seed in range(16)])
        assert found is not None
        return found

    return once("torsos", learn)


@pytest.fixture(scope="module")
def rules(reference: ScanReference) -> ScanRules:
    return ScanRules(references={TORSO.sha256: reference})


def scan(torso: Torso, *, turned: Sequence[int] = ()) -> tuple[Volume, Body]:
    volume, mask = torso.volume()
    volume = Volume(grid=volume.grid, hu=np.flip(volume.hu, turned))
    mask = np.flip(mask, turned)
    return volume, Body(mask=mask, box=Box.around(mask), effective_diameter_mm=200.0, findings=())


def silent(part: float, text: str) -> None:
    del part, text


@dataclass(slots=True)
class Everywhere:
    """Finds two organs in every voxel of the patient, and remembers what it saw."""

    organs: OrganTable
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        return (TORSO,)

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        on_progress(1.0, "done")
        self.shapes.append(volume.hu.shape)
        labels = body.mask.astype(np.uint8)
        labels[:, :, labels.shape[2] // 2 :] *= 2
        organs = {1: self.organs["brainstem"], 2: self.organs["esophagus"]}
        label_map = LabelMap(grid=volume.grid, labels=labels, organs=organs)
        return Prediction(label_map=label_map, models=self.models, method="whole", device="cpu")


def test_a_scan_of_the_region_is_contoured_whole(rules: ScanRules) -> None:
    assert check_scan(*scan(Torso(seed=90)), [TORSO], rules) == ScanDecision()


def test_a_mirrored_scan_is_held_until_a_person_releases_it(rules: ScanRules) -> None:
    volume, body = scan(Torso(seed=90), turned=(2,))
    with pytest.raises(SidesDoubtful, match="exchanged"):
        check_scan(volume, body, [TORSO], rules)
    released = check_scan(volume, body, [TORSO], ScanRules(references=rules.references, released=True))
    (finding,) = released.findings
    assert finding.code == SidesDoubtful.code
    assert finding.level is Level.WARNING
    assert "a person's decision" in finding.message


def chest(rules: ScanRules) -> tuple[tuple[Volume, Body], ScanRules]:
    """A patient that is the same at all levels."""
    volume, body = scan(Torso(seed=90))
    mask = np.repeat(body.mask[5:6], body.mask.shape[0], axis=0)
    hu = np.repeat(volume.hu[5:6], volume.hu.shape[0], axis=0)
    same = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=200.0, findings=())
    return (Volume(grid=volume.grid, hu=hu), same), rules


def test_a_scan_of_another_region_is_held(rules: ScanRules) -> None:
    (volume, body), rules = chest(rules)
    with pytest.raises(RegionNotTrained) as caught:
        check_scan(volume, body, [TORSO], rules)
    assert "--untrained-region" in caught.value.next_step
    assert "jobs approve" in caught.value.next_step


def test_beside_a_model_that_fits_the_organs_of_the_other_are_left_out(
    rules: ScanRules, reference: ScanReference
) -> None:
    (volume, body), rules = chest(rules)
    decision = check_scan(volume, body, [TORSO, OTHER], rules)
    assert decision.absent == set(reference.organs_mm)
    assert decision.range_mm is None
    assert {finding.level for finding in decision.findings} == {Level.WARNING}


def test_a_model_without_a_reference_is_run_on_every_scan() -> None:
    volume, body = scan(Torso(seed=90), turned=(0, 2))
    assert check_scan(volume, body, [OTHER], ScanRules()) == ScanDecision()


def test_an_error_names_the_doubt_and_no_patient(rules: ScanRules) -> None:
    with pytest.raises(ScanDoubtful) as caught:
        check_scan(*scan(Torso(seed=90), turned=(0,)), [TORSO], rules)
    assert caught.value.code == "PATIENT_POSITION_DOUBTFUL"
    assert not caught.value.retryable


def test_only_the_slices_of_the_region_are_given_to_the_network(organ_table: OrganTable) -> None:
    predictor = Everywhere(organ_table)
    volume, body = scan(Torso(seed=90))
    decision = ScanDecision(range_mm=(-50.0, 20.0))
    found = predict_part(predictor, decision, (volume, body), silent).label_map
    heights = volume.grid.heights_mm
    inside = (heights >= -50) & (heights <= 20)
    assert predictor.shapes == [(int(inside.sum()), *volume.hu.shape[1:])]
    assert found.grid == volume.grid
    assert np.array_equal((found.labels > 0).any(axis=(1, 2)), inside)


def test_a_range_outside_of_the_scan_changes_nothing(organ_table: OrganTable) -> None:
    predictor = Everywhere(organ_table)
    volume, body = scan(Torso(seed=90))
    predict_part(predictor, ScanDecision(range_mm=(5000.0, 6000.0)), (volume, body), silent)
    assert predictor.shapes == [volume.hu.shape]


def test_organs_that_cannot_be_in_the_scan_are_left_out_of_the_labels(organ_table: OrganTable) -> None:
    volume, body = scan(Torso(seed=90))
    decision = ScanDecision(absent=frozenset({"esophagus"}))
    found = predict_part(Everywhere(organ_table), decision, (volume, body), silent).label_map
    assert set(np.unique(found.labels)) == {0, 1}
    assert found.organs[2].key == "esophagus"
