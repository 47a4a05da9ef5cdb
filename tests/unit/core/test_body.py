"""The body contour keeps the patient and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.body import Body, cut_to_body, find_body
from orgseg_node.core.checks import Level
from orgseg_node.core.geometry import Shape, Vector
from orgseg_node.core.metrics import dice
from orgseg_node.errors import BodyNotFound
from tests.support.ct.bodies import Scene


def _codes(body: Body) -> set[str]:
    return {finding.code for finding in body.findings}


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 128, 128), (3.0, 3.0, 3.0)), ((24, 384, 384), (5.0, 1.0, 1.0)), ((30, 100, 100), (2.5, 4.7, 4.7))],
)
def test_trunk_with_lungs_on_a_couch_is_found_at_every_resolution(shape: Shape, spacing: Vector) -> None:
    scene = Scene(shape=shape, spacing_mm=spacing).trunk().couch()
    body = find_body(scene.volume())
    assert dice(body.mask, scene.patient) > 0.97
    assert body.mask[scene.patient & (scene.hu < -700)].mean() > 0.99, "the lungs belong to the patient"


def test_couch_is_removed_though_it_touches_the_back() -> None:
    scene = Scene(shape=(24, 384, 384), spacing_mm=(5.0, 1.0, 1.0)).trunk().couch()
    body = find_body(scene.volume())
    couch = (scene.hu == 100) & ~scene.patient
    assert body.mask[couch].mean() < 0.08, "only the skin line under the back"


def test_blanket_and_mask_are_removed() -> None:
    scene = Scene(shape=(24, 384, 384), spacing_mm=(5.0, 1.0, 1.0)).trunk()
    scene.slab((-125, -122), (-180, 180), -100)
    body = find_body(scene.volume())
    assert not body.mask[:, :72, :].any()
    assert dice(body.mask, scene.patient) > 0.98


def test_arms_that_are_separate_stay() -> None:
    scene = Scene(shape=(40, 128, 200)).trunk()
    for side in (-225, 225):
        scene.cylinder(20, side, 80, 70, 20, patient=True, taper=0.2)
    body = find_body(scene.volume())
    assert dice(body.mask, scene.patient) > 0.97
    assert "BODY_SEVERAL_PARTS" in _codes(body)


def test_two_legs_stay() -> None:
    scene = Scene()
    for side in (-80, 80):
        scene.cylinder(0, side, 110, 120, 30, patient=True, taper=0.2)
    body = find_body(scene.volume())
    assert dice(body.mask, scene.patient) > 0.97


def test_rail_of_the_couch_goes_though_it_is_solid() -> None:
    scene = Scene(shape=(40, 128, 160)).trunk()
    scene.slab((110, 140), (180, 225), 120)
    body = find_body(scene.volume())
    assert not body.mask[(scene.hu == 120) & ~scene.patient].any()
    assert "BODY_OBJECTS_REMOVED" in _codes(body)


def test_foam_block_beside_the_head_goes() -> None:
    scene = Scene().cylinder(0, 0, 200, 160, 30, patient=True, taper=0.1)
    scene.cylinder(0, 150, 70, 70, -260, patient=False, taper=0.3)
    body = find_body(scene.volume())
    assert dice(body.mask, scene.patient) > 0.97


def test_metal_stays_inside() -> None:
    scene = Scene().trunk().cylinder(60, 0, 25, 25, 20000, patient=True)
    body = find_body(scene.volume())
    assert body.mask[scene.hu == 20000].all()


def test_patient_cut_by_the_field_of_view_is_kept_and_reported() -> None:
    scene = Scene(shape=(30, 100, 100), spacing_mm=(3.0, 3.0, 3.0)).cylinder(0, 0, 250, 400, 30, patient=True)
    body = find_body(scene.volume())
    assert dice(body.mask, scene.patient) > 0.97
    assert [f.level for f in body.findings if f.code == "BODY_TOUCHES_FOV"] == [Level.WARNING]


def test_patient_cut_by_the_reconstruction_circle_is_reported() -> None:
    scene = Scene(shape=(30, 100, 100)).cylinder(0, 0, 200, 290, 30, patient=True)
    j, i = np.ogrid[:100, :100]
    scene.hu[:, np.hypot(j - 49.5, i - 49.5) > 50] = -1024
    scene.cylinder(0, 0, 200, 298, 30, patient=True)
    assert "BODY_TOUCHES_FOV" in _codes(find_body(scene.volume()))


def test_lung_that_runs_out_of_the_image_stays_open_or_filled_but_body_is_kept() -> None:
    scene = Scene(shape=(30, 100, 100)).cylinder(0, 60, 220, 300, 30, patient=True)
    scene.cylinder(0, 130, 60, 70, -800, patient=True)
    body = find_body(scene.volume())
    tissue = scene.patient & (scene.hu > -300)
    assert body.mask[tissue].mean() > 0.97


def test_thin_chest_wall_of_a_child_holds_its_lungs() -> None:
    scene = Scene(shape=(24, 200, 200), spacing_mm=(5.0, 1.0, 1.0))
    scene.cylinder(0, 0, 120, 160, 30, patient=True, taper=0.05)
    for side in (-45, 45):
        scene.cylinder(0, side, 74, 52, -820, patient=True, taper=0.05)
    body = find_body(scene.volume())
    assert dice(body.mask, scene.patient) > 0.95


@pytest.mark.parametrize("level", [-1000, -500])
def test_a_image_without_a_patient_is_refused(level: int) -> None:
    scene = Scene()
    scene.hu[:] = level
    with pytest.raises(BodyNotFound):
        find_body(scene.volume())


def test_a_wire_alone_is_no_patient() -> None:
    scene = Scene()
    scene.hu[:, 60, 60] = 500
    with pytest.raises(BodyNotFound):
        find_body(scene.volume())


def test_effective_diameter_is_that_of_the_ellipse() -> None:
    scene = Scene(shape=(20, 128, 128)).cylinder(0, 0, 200, 300, 30, patient=True)
    assert find_body(scene.volume()).effective_diameter_mm == pytest.approx(np.sqrt(200 * 300), rel=0.03)


def test_cut_to_body_blanks_what_is_outside_and_keeps_the_margin() -> None:
    scene = Scene().trunk()
    scene.slab((150, 180), (-150, 150), 77)
    volume = scene.volume()
    body = find_body(volume)
    cropped, box = cut_to_body(volume, body, 6.0, outside_to_air=True)
    assert cropped.hu.shape == box.shape
    assert np.array_equal(cropped.hu[body.mask[box.slices]], volume.hu[body.mask])
    assert 77 not in cropped.hu
    kept = find_body(volume).mask[box.slices]
    assert (cropped.hu[~kept] == -1000).all()


def test_cut_to_body_without_blanking_is_a_crop() -> None:
    scene = Scene().trunk().couch()
    volume = scene.volume()
    cropped, box = cut_to_body(volume, find_body(volume), 0.0, outside_to_air=False)
    assert np.array_equal(cropped.hu, volume.hu[box.slices])
    assert np.allclose(cropped.grid.origin_mm, volume.grid.to_lps([box.start])[0])
