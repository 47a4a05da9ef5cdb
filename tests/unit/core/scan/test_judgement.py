"""A scan of the region is contoured; one of another region or in another position is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orgseg_node.core.checks import Level
from orgseg_node.core.scan.judgement import (
    ORGANS_NOT_IN_SCAN,
    PATIENT_POSITION_DOUBTFUL,
    REGION_NOT_TRAINED,
    REGION_PARTLY_TRAINED,
    SIDES_DOUBTFUL,
    SIDES_NOT_CONFIRMED,
    ScanJudgement,
    judge_kind,
    judge_scan,
)
from orgseg_node.core.scan.kind import SCAN_KIND_DOUBTFUL
from orgseg_node.core.scan.reference import ScanReference, learn_scan_reference
from orgseg_node.core.scan.slices import slice_measures
from tests.support.ct.torsos import Torso, abdomen

NEW = range(100, 103)


def codes(judgement: ScanJudgement, level: Level | None = None) -> set[str]:
    return {f.code for f in judgement.findings if level in (None, f.level)}


@pytest.mark.parametrize("seed", NEW)
def test_a_new_patient_of_the_region_is_contoured_without_a_word(seed: int, reference: ScanReference) -> None:
    judgement = judge_scan(Torso(seed=seed, z_mm=77.0).scan(), reference, "torso")
    assert judgement == ScanJudgement(findings=())


@pytest.mark.parametrize("axes", ["x", "y", "yx", "z", "zx", "zy", "zyx"])
@pytest.mark.parametrize("seed", NEW)
def test_every_exchange_of_directions_is_held(seed: int, axes: str, reference: ScanReference) -> None:
    scan = Torso(seed=seed).scan().flipped(z="z" in axes, y="y" in axes, x="x" in axes)
    expected = SIDES_DOUBTFUL if axes == "x" else PATIENT_POSITION_DOUBTFUL
    assert expected in {finding.code for finding in judge_scan(scan, reference, "torso").reasons}


def test_where_nothing_is_asymmetric_the_sides_are_stated_as_not_confirmed(reference: ScanReference) -> None:
    head = Torso(seed=100, low=-60.0).scan()
    for x in (False, True):
        judgement = judge_scan(head.flipped(z=False, y=False, x=x), reference, "torso")
        assert SIDES_NOT_CONFIRMED in codes(judgement, Level.WARNING)
        assert not judgement.reasons


def test_another_region_is_held(reference: ScanReference) -> None:
    reason = judge_scan(abdomen(), reference, "torso").reasons[0]
    assert reason.code == REGION_NOT_TRAINED
    assert "torso" in reason.message


def test_a_scan_with_too_few_of_the_organs_is_held_and_names_them(reference: ScanReference) -> None:
    high = Torso(seed=100, low=70.0).scan()
    narrow = replace(
        reference, organs_mm={f"{key}{n}": ends for key, ends in reference.organs_mm.items() for n in (1, 2)}
    )
    (reason,) = judge_scan(high, replace(narrow, organ_share=1.0), "torso").reasons
    assert reason.code == REGION_NOT_TRAINED
    assert "brainstem1, brainstem2" in reason.message


def test_organs_that_the_scan_does_not_reach_are_not_looked_for(reference: ScanReference) -> None:
    judgement = judge_scan(Torso(seed=100, low=-20.0).scan(), reference, "torso")
    assert judgement.absent == {"esophagus"}
    assert ORGANS_NOT_IN_SCAN in codes(judgement, Level.INFO)


def test_of_a_long_scan_only_the_region_is_contoured(reference: ScanReference) -> None:
    torso = Torso(seed=100).scan()
    belly = abdomen()
    whole = replace(
        torso,
        hu=np.concatenate([belly.hu, torso.hu]),
        inside=np.concatenate([belly.inside, torso.inside]),
        z_mm=np.arange(belly.z_mm.size + torso.z_mm.size) * 5.0,
        planes=np.arange(belly.z_mm.size + torso.z_mm.size),
    )
    judgement = judge_scan(whole, reference, "torso")
    assert not judgement.reasons
    assert REGION_PARTLY_TRAINED in codes(judgement, Level.WARNING)
    assert judgement.range_mm is not None
    low, high = judgement.range_mm
    assert belly.z_mm[-1] - 60 < low < belly.z_mm[-1] + 20
    assert high > whole.z_mm[-1]


def test_a_phantom_of_one_density_is_no_patient() -> None:
    phantom = abdomen()
    water = replace(phantom, hu=np.where(phantom.inside, np.float32(0), np.float32(-1000)))
    assert codes(judge_kind(water)) == {SCAN_KIND_DOUBTFUL}
    assert not judge_kind(Torso().scan()).findings


def test_values_of_another_scale_are_held(reference: ScanReference) -> None:
    scan = Torso(seed=100).scan()
    shifted = replace(scan, hu=np.where(scan.inside, scan.hu - 150, scan.hu))
    judgement = judge_scan(shifted, reference, "torso")
    assert judgement.reasons
    assert SCAN_KIND_DOUBTFUL in codes(judgement)


def test_a_patient_of_less_than_a_litre_and_a_half_is_not_measured_by_kind() -> None:
    assert not judge_kind(Torso(low=140.0).scan()).findings


def test_too_few_scans_give_no_reference() -> None:
    assert learn_scan_reference([Torso(seed=seed, low=0.0).training_scan() for seed in range(5)]) is None


def test_the_reference_is_the_same_after_it_was_stored(reference: ScanReference) -> None:
    stored = reference.as_dict()
    read = ScanReference.from_dict(stored)
    assert read.as_dict() == stored
    for scan in (Torso(seed=100).scan(), abdomen()):
        assert codes(judge_scan(scan, read, "torso")) == codes(judge_scan(scan, reference, "torso"))


@pytest.mark.parametrize("part", ["levels", "numbers", "organs_mm"])
def test_a_reference_without_a_part_is_refused(part: str, reference: ScanReference) -> None:
    values = reference.as_dict()
    del values[part]
    with pytest.raises((KeyError, ValueError)):
        ScanReference.from_dict(values)


def test_a_single_measure_that_is_far_off_counts_like_one_that_is_unusual(reference: ScanReference) -> None:
    scan = Torso(seed=100).scan()
    rows = slice_measures(scan)
    odd, odder = rows.copy(), rows.copy()
    odd[:, 2] += 20.0  # cm: what a head rest in the body outline adds to the depth
    odder[:, 2] += 200.0
    at = np.array([0.0, 50.0])
    first, second = (reference.levels.distances(each, at) for each in (odd, odder))
    assert np.allclose(first, second)
