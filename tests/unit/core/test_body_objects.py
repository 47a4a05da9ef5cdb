"""Objects that touch the patient are left out of the body, and cavities are the same in every slice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from orgseg_node.core.body import find_body
from orgseg_node.core.geometry import Shape
from orgseg_node.core.volume import Mask
from tests.support.ct.bodies import Scene


def _patient(shape: Shape = (40, 128, 128)) -> Scene:
    """A trunk with fat, muscle, lungs and a spine, whose section changes along z, in a noisy image."""
    scene = Scene(shape=shape)
    scene.cylinder(0, 0, 200, 290, -100, patient=True, taper=0.1)
    scene.cylinder(0, 0, 160, 250, 50, patient=True, taper=0.1)
    for side in (-60, 60):
        scene.cylinder(0, side, 110, 90, -820, patient=True, taper=0.1)
    return scene.cylinder(60, 0, 30, 30, 500, patient=True, taper=0.1)


def _with_object(scene: Scene, where: Mask, hu: int) -> tuple[Scene, Mask]:
    placed = where & ~scene.patient
    scene.hu[placed] = hu
    scene.hu += np.random.default_rng(3).normal(0, 12, scene.shape).astype(np.int16)
    return scene, placed


def _axes(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z, y, x = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(scene.shape, scene.spacing_mm, strict=True))
    return np.meshgrid(z, y, x, indexing="ij")


@pytest.mark.parametrize("hu", [60, 110, -220])
def test_rest_that_touches_the_side_of_the_patient_is_left_out(hu: int) -> None:
    z, y, x = _axes(scene := _patient())
    scene, rest = _with_object(scene, (abs(z) < 50) & (abs(y) < 30) & (x > 120) & (x < 185), hu)
    body = find_body(scene.volume())
    assert body.mask[rest].mean() < 0.08
    assert body.mask[scene.patient].mean() > 0.99
    assert "BODY_OBJECTS_REMOVED" in {finding.code for finding in body.findings}


def test_board_under_the_whole_scan_is_left_out() -> None:
    _, y, x = _axes(scene := _patient())
    scene, board = _with_object(scene, (y > 95) & (y < 115) & (abs(x) < 170), 60)
    body = find_body(scene.volume())
    assert body.mask[board].mean() < 0.05
    assert body.mask[scene.patient].mean() > 0.99


def test_board_under_a_patient_with_an_even_inside_is_no_phantom_and_takes_nothing_of_the_patient() -> None:
    scene = Scene().cylinder(0, 0, 170, 230, -100, patient=True, taper=0.1)
    scene.cylinder(0, 0, 140, 200, 50, patient=True)
    z, y, x = _axes(scene)
    wide = 50 + 12 * np.sin(z / 12)
    contact = (y > 0) & (y < 90) & (abs(x) < wide)  # muscle that lies on the board, as even as the board
    scene.hu[contact] = 50
    scene.patient |= contact
    scene, board = _with_object(scene, (y > 90) & (y < 110) & (abs(x) < 185), 60)
    body = find_body(scene.volume())
    assert body.mask[board].mean() < 0.05
    assert body.mask[scene.patient].mean() > 0.995


def test_wedge_of_dense_foam_is_left_out_though_its_section_changes() -> None:
    z, y, x = _axes(scene := _patient())
    scene, wedge = _with_object(scene, (y > 90) & (y < 125 - z / 3) & (abs(x) < 100) & (z < 30), -240)
    body = find_body(scene.volume())
    assert body.mask[wedge].mean() < 0.08
    assert body.mask[scene.patient].mean() > 0.99


def test_mask_with_a_gap_to_the_skin_is_left_out() -> None:
    scene = Scene(shape=(24, 300, 300), spacing_mm=(3.0, 0.9, 0.9))
    scene.cylinder(0, 0, 200, 160, -100, patient=True, taper=0.05)
    scene.cylinder(0, 0, 190, 150, 40, patient=True, taper=0.05)
    away = np.stack([ndimage.distance_transform_edt(~plane, sampling=0.9) for plane in scene.patient])
    _, y, _ = _axes(scene)
    shell = (away > 2) & (away <= 4.5) & (y < 20)
    scene, shell = _with_object(scene, shell, 80)
    body = find_body(scene.volume())
    assert body.mask[shell].mean() < 0.2
    assert body.mask[scene.patient].mean() > 0.99


def test_uniform_phantom_is_not_taken_for_a_rest() -> None:
    scene = Scene().cylinder(0, 0, 200, 200, 0, patient=True)
    body = find_body(scene.volume())
    assert body.mask[scene.patient].mean() > 0.98
    assert {finding.code for finding in body.findings} == {"BODY_EFFECTIVE_DIAMETER"}


def test_fat_with_a_flat_back_is_not_taken_for_a_board() -> None:
    _, y, x = _axes(scene := _patient())
    flat = (y > 80) & (y < 100) & (abs(x) < 80)
    scene.hu[flat & ~scene.patient] = -100
    scene.patient |= flat
    assert find_body(scene.volume()).mask[scene.patient].mean() > 0.99


def _neck_with_airway(open_slices: range) -> tuple[Scene, Mask]:
    """A neck with a trachea close to the skin, which some slices show open to the outside, as a mouth is."""
    scene = Scene(shape=(40, 160, 160), spacing_mm=(3.0, 1.5, 1.5))
    scene.cylinder(0, 0, 150, 130, -100, patient=True, taper=0.05)
    scene.cylinder(0, 0, 140, 120, 50, patient=True, taper=0.05)
    _, y, x = _axes(scene)
    airway = ((y + 50) ** 2 + x**2) < 11**2
    scene.hu[airway] = -1000
    mouth = (y < -45) & (abs(x) < 8)
    for k in open_slices:
        scene.hu[k][mouth[k]] = -1000
    return scene, airway


def test_airway_is_filled_where_the_mouth_is_open_as_well() -> None:
    scene, airway = _neck_with_airway(range(18, 22))
    body = find_body(scene.volume())
    filled = [body.mask[k][airway[k]].mean() for k in range(40)]
    assert min(filled) > 0.8, "the same in every slice"


def test_gap_between_arm_and_trunk_that_few_slices_close_stays_open() -> None:
    scene = Scene(shape=(40, 128, 160)).cylinder(0, 0, 200, 240, -100, patient=True, taper=0.05)
    scene.cylinder(0, 0, 180, 220, 40, patient=True, taper=0.05)
    scene.cylinder(0, 165, 90, 70, -100, patient=True, taper=0.05)
    scene.cylinder(0, 165, 60, 40, 50, patient=True, taper=0.05)
    _, y, x = _axes(scene)
    gap = (abs(y) < 40) & (x > 122) & (x < 132)
    bridges = (x > 100) & (x < 150) & (abs(abs(y) - 45) < 7)
    for k in range(18, 21):
        scene.hu[k][bridges[k]] = 40
        scene.patient[k] |= bridges[k]
    scene.hu[gap] = -1000
    body = find_body(scene.volume())
    assert body.mask[gap].mean() < 0.3


def test_ear_stays_whole() -> None:
    scene = Scene(shape=(30, 220, 220), spacing_mm=(3.0, 1.0, 1.0))
    scene.cylinder(0, 0, 190, 150, -100, patient=True, taper=0.02)
    scene.cylinder(0, 0, 180, 140, 40, patient=True, taper=0.02)
    z, y, x = _axes(scene)
    ear = (abs(z) < 28) & (abs(y - (x - 70) * 0.4) < 2.5) & (x > 70) & (x < 95)
    scene.hu[ear & ~scene.patient] = 0
    body = find_body(scene.volume())
    assert body.mask[ear].mean() > 0.9


@pytest.mark.parametrize("slices", [1, 2, 5])
def test_short_scans_are_found(slices: int) -> None:
    whole = _patient()
    scene = Scene(shape=(slices, 128, 128))
    scene.hu, scene.patient = whole.hu[18 : 18 + slices], whole.patient[18 : 18 + slices]
    assert find_body(scene.volume()).mask[scene.patient].mean() > 0.99


def test_slices_of_air_at_the_ends_stay_empty() -> None:
    scene = Scene(shape=(60, 128, 128))
    whole = _patient()
    scene.hu[10:50], scene.patient[10:50] = whole.hu, whole.patient
    body = find_body(scene.volume())
    assert not body.mask[:9].any()
    assert body.mask[scene.patient].mean() > 0.99


def test_streaks_of_metal_that_reach_the_border_change_little() -> None:
    scene = _patient()
    for row in range(10, 118, 9):
        scene.hu[18:22, row, :] += np.int16(900 if row % 2 else -500)
    body = find_body(scene.volume())
    assert body.mask[scene.patient].mean() > 0.99
    assert body.mask[~scene.patient].mean() < 0.03
