"""What a few scans show of left and right is not taken for anatomy, and what many showed is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orgseg_node.core.scan.grid import ScanGrid
from orgseg_node.core.scan.judgement import SIDES_DOUBTFUL, SIDES_NOT_CONFIRMED, judge_scan
from orgseg_node.core.scan.reference import ScanReference, learn_scan_reference
from orgseg_node.core.scan.sides import SidesModel, learn_sides
from tests.support.ct.torsos import Torso

_LEVELS_MM = (0.0, 60.0)


def neck(seed: int) -> ScanGrid:
    """A neck with a muscle on each side; their densities differ between patients about as much as sides."""
    low, high = _LEVELS_MM
    scan = Torso(seed=seed, low=low, high=high).scan()
    hu = scan.hu.copy()
    rng = np.random.default_rng(1000 + seed)
    for side, mean in ((1, 80.0), (-1, 20.0)):
        columns = sorted((40 + side * 3, 40 + side * 8))
        hu[:, 26:32, slice(*columns)] += np.float32(rng.normal(mean, 40.0))
    return replace(scan, hu=hu)


def learned(count: int) -> SidesModel | None:
    scans = [neck(seed) for seed in range(count)]
    return learn_sides([(scan, scan.z_mm) for scan in scans], _LEVELS_MM)


def test_a_difference_that_a_few_scans_may_show_by_chance_counts_only_when_many_show_it() -> None:
    assert learned(20) is None
    many = learned(90)
    assert many is not None
    assert many.scans == 90


def heads(count: int) -> list[Torso]:
    """Patients whose scans end above the chest, so that they do not show which side is which."""
    return [Torso(seed=50 + seed, low=-60.0, z_mm=20.0 * seed) for seed in range(count)]


def codes(scan: ScanGrid, reference: ScanReference) -> set[str]:
    return {finding.code for finding in judge_scan(scan, reference, "torso").findings}


def test_a_reference_made_from_another_keeps_the_sides_that_more_scans_showed(
    reference: ScanReference,
) -> None:
    scans = [torso.training_scan() for torso in heads(15)]
    alone, tuned = learn_scan_reference(scans), learn_scan_reference(scans, reference)
    assert alone is not None
    assert alone.sides is None
    assert tuned is not None
    chest = Torso(seed=100, z_mm=77.0).scan()
    for own in (alone, tuned):
        assert SIDES_DOUBTFUL not in codes(chest, own)
    exchanged = chest.flipped(z=False, y=False, x=True)
    assert SIDES_NOT_CONFIRMED in codes(exchanged, alone)
    assert SIDES_DOUBTFUL in codes(exchanged, tuned)
    assert SIDES_NOT_CONFIRMED not in codes(chest, tuned)
    head = Torso(seed=101, low=-60.0).scan()
    assert SIDES_DOUBTFUL not in codes(head, tuned) | codes(head.flipped(z=False, y=False, x=True), tuned)


def test_kept_sides_are_judged_at_the_levels_they_were_learned_at(reference: ScanReference) -> None:
    tuned = learn_scan_reference([torso.training_scan() for torso in heads(15)], reference)
    assert tuned is not None
    assert tuned.sides is reference.sides
    again = learn_scan_reference([torso.training_scan() for torso in heads(16)], tuned)
    stored = ScanReference.from_dict(tuned.as_dict())
    elsewhere = replace(stored, levels=replace(stored.levels, knots_mm=stored.levels.knots_mm + 40.0))
    exchanged = Torso(seed=100, z_mm=77.0).scan().flipped(z=False, y=False, x=True)

    def evidence(own: ScanReference | None) -> float:
        assert own is not None
        findings = judge_scan(exchanged, own, "torso").findings
        (found,) = (each.value for each in findings if each.code == SIDES_DOUBTFUL)
        assert found is not None
        return found

    for own in (tuned, again, elsewhere):  # the numbers of a stored one are rounded
        assert evidence(own) == pytest.approx(evidence(reference), rel=0.01)


def test_more_scans_of_ones_own_show_it_better(reference: ScanReference) -> None:
    scans = [torso.training_scan() for torso in heads(18)]
    found = learn_scan_reference(scans, reference)  # of 18 scans, too
    assert found is not None
    assert found.sides is None


def test_the_sides_of_another_region_are_not_taken(reference: ScanReference) -> None:
    assert reference.sides is not None
    unlike = replace(
        reference,
        sides=replace(reference.sides, scans=500),
        levels=replace(reference.levels, means=reference.levels.means + 50.0),
    )
    found = learn_scan_reference([torso.training_scan() for torso in heads(15)], unlike)
    assert found is not None
    assert found.sides is None


def test_the_number_of_scans_is_kept_and_known_of_older_files(reference: ScanReference) -> None:
    assert reference.sides is not None
    values = replace(reference, sides=replace(reference.sides, scans=72)).as_dict()
    read = ScanReference.from_dict(values).sides
    assert read is not None
    assert read.scans == 72
    del values["sides"]["scans"]
    older = ScanReference.from_dict(values).sides
    assert older is not None
    assert older.scans == reference.scans
