"""The measures of an organ: independent of resolution and direction, blind to what is cut off."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from orgseg_node.core.anatomy.measures import OrganMeasures, measure_main_part, measure_organ
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.geometry import Grid
from tests.support.ct.anatomy_patients import AnatomyPatient, anatomy_patient


def measures(patient: AnatomyPatient, key: str = "parotid_left") -> OrganMeasures:
    """Measures of an organ of a patient."""
    found = measure_organ(WorkingGrid(patient.grid, patient.hu, patient.body), patient.masks[key])
    assert found is not None
    return found


def flipped(patient: AnatomyPatient) -> AnatomyPatient:
    """The same patient in a CT whose slices run to the feet and whose rows run to the front."""
    k, j, i = patient.grid.shape
    dz, dy, dx = patient.grid.spacing_mm
    grid = Grid(
        shape=(k, j, i),
        spacing_mm=(dz, dy, dx),
        origin_mm=(0.0, (j - 1) * dy, (k - 1) * dz),
        axes=((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
    )
    turn = (slice(None, None, -1), slice(None, None, -1))
    masks = {key: mask[turn] for key, mask in patient.masks.items()}
    return AnatomyPatient(grid=grid, hu=patient.hu[turn], body=patient.body[turn], masks=masks)


def test_fine_and_coarse_cts_give_nearly_the_same_measures() -> None:
    coarse = measures(anatomy_patient(1))
    fine = measures(anatomy_patient(1, step_mm=(1.5, 1.0, 1.0)))
    assert fine.volume_ml == pytest.approx(coarse.volume_ml, rel=0.1)
    assert fine.values["skin_left"] == pytest.approx(coarse.values["skin_left"], abs=3)
    assert fine.values["far_air_left"] == pytest.approx(coarse.values["far_air_left"], abs=0.12)


def test_the_direction_of_the_ct_does_not_matter() -> None:
    patient = anatomy_patient(2)
    straight, turned = measures(patient), measures(flipped(patient))
    for name, value in straight.values.items():
        assert turned.values[name] == pytest.approx(value, nan_ok=True), name
    assert turned.anchors_mm["upper"] == pytest.approx(straight.anchors_mm["upper"])


def test_sides_of_the_patient_are_told_apart() -> None:
    left, right = (measures(anatomy_patient(3), f"parotid_{side}") for side in ("left", "right"))
    assert left.values["across"] > 0.3
    assert right.values["across"] < -0.3
    assert left.values["far_air_left"] > left.values["far_air_right"]


def test_an_organ_that_the_scan_cuts_has_no_volume_to_compare() -> None:
    patient = anatomy_patient(4)
    first = int(np.flatnonzero(patient.masks["brainstem"].any(axis=(1, 2)))[3])
    cut = AnatomyPatient(
        grid=replace(patient.grid, shape=(patient.grid.shape[0] - first, *patient.grid.shape[1:])),
        hu=patient.hu[first:],
        body=patient.body[first:],
        masks={key: mask[first:] for key, mask in patient.masks.items()},
    )
    found = measures(cut, "brainstem")
    assert found.cut == ("feet",)
    assert math.isnan(found.values["log_volume"])
    assert math.isnan(found.values["near_hu_feet"])
    assert math.isfinite(found.values["log_section"])
    assert math.isnan(found.anchors_mm["lower"][0])
    assert math.isfinite(found.anchors_mm["upper"][0])


def test_pieces_holes_and_skipped_slices_are_counted() -> None:
    patient = anatomy_patient(5)
    mask = patient.masks["brainstem"]
    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    middle = np.argwhere(mask).mean(axis=0).round().astype(int)
    mask[shown[-2]] = False
    mask[tuple(middle)] = False
    mask[2, 2, 2] = True
    found = measures(patient, "brainstem")
    assert found.skipped_slices >= 1
    assert found.holes_ml == pytest.approx(0.048)
    assert len(found.pieces) == 3
    assert found.pieces[0].distance_mm == 0
    assert max(piece.distance_mm for piece in found.pieces) > 50


def test_an_organ_that_was_not_found_has_no_measures() -> None:
    patient = anatomy_patient(6)
    nothing = np.zeros_like(patient.body)
    assert measure_organ(WorkingGrid(patient.grid, patient.hu, patient.body), nothing) is None


def test_a_single_voxel_can_be_measured() -> None:
    patient = anatomy_patient(7)
    mask = np.zeros_like(patient.body)
    mask[-1, -1, -1] = True
    found = measure_organ(WorkingGrid(patient.grid, patient.hu, patient.body), mask)
    assert found is not None
    assert found.at_border


@pytest.mark.parametrize(("height", "is_crumb"), [(3, True), (14, False)])
def test_what_lies_far_from_the_largest_piece_is_measured_only_if_the_scan_parts_the_organ(
    height: int, *, is_crumb: bool
) -> None:
    patient = anatomy_patient(3)
    scan = WorkingGrid(patient.grid, patient.hu, patient.body)
    main, both = np.zeros(patient.grid.shape, dtype=bool), np.zeros(patient.grid.shape, dtype=bool)
    main[:16, 20:24, 12:16] = both[:16, 20:24, 12:16] = True  # reaches the first slice, as a ramus may
    both[:height, 20:24, 28:30] = True  # 48 mm beside it
    found, alone, whole = (
        measure_main_part(scan, both, "mandible"), measure_organ(scan, main), measure_organ(scan, both),
    )  # fmt: skip
    assert found is not None
    assert alone is not None
    assert whole is not None
    assert len(found.pieces) == 2
    assert found.volume_ml == whole.volume_ml
    wanted = alone if is_crumb else whole
    np.testing.assert_equal(dict(found.values), dict(wanted.values))
