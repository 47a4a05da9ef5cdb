"""The effective diameter of shapes whose section is known exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orgseg_node.core.body.size import measure_size
from orgseg_node.core.volume import Volume
from tests.support.ct.bodies import Scene

SPACING = (5.0, 1.0, 1.0)
SHAPE = (20, 340, 340)


def ellipse(height: float, width: float, *, x: float = 0.0) -> Scene:
    return Scene(shape=SHAPE, spacing_mm=SPACING).cylinder(0, x, height, width, 30, patient=True)


@pytest.mark.parametrize(("height", "width"), [(200.0, 200.0), (200.0, 300.0), (90.0, 120.0)])
@pytest.mark.parametrize("spacing", [(5.0, 1.0, 1.0), (2.5, 0.9, 1.3)])
def test_an_ellipse_has_the_root_of_its_axes(
    height: float, width: float, spacing: tuple[float, float, float]
) -> None:
    scene = Scene(shape=SHAPE, spacing_mm=spacing).cylinder(0, 0, height, width, 30, patient=True)
    size = measure_size(scene.volume(), scene.patient)
    assert size.effective_diameter_mm == pytest.approx(np.sqrt(height * width), rel=0.005)
    assert (size.ap_mm, size.lat_mm) == pytest.approx((height, width), abs=2.0)
    assert size.cut == 0.0


def test_a_square_has_the_diameter_of_the_circle_with_its_area() -> None:
    scene = Scene(shape=SHAPE, spacing_mm=SPACING)
    scene.patient[:, 70:270, 70:270] = True
    size = measure_size(scene.volume(), scene.patient)
    assert size.effective_diameter_mm == pytest.approx(2 * 200 / np.sqrt(np.pi), rel=1e-9)
    assert (size.ap_mm, size.lat_mm) == (200.0, 200.0)


def test_it_is_the_median_of_the_slices_and_slices_without_a_patient_do_not_count() -> None:
    scene = Scene(shape=SHAPE, spacing_mm=SPACING)
    for planes, side in ((slice(2, 9), 100), (slice(9, 10), 150), (slice(10, 17), 200)):
        scene.patient[planes, 50 : 50 + side, 50 : 50 + side] = True
    size = measure_size(scene.volume(), scene.patient)
    assert size.ap_mm == 150.0


def test_arms_beside_the_trunk_and_the_second_leg_do_not_count() -> None:
    alone = ellipse(150, 180)
    both = ellipse(150, 180)
    for side in (-140, 140):
        both.cylinder(0, side, 60, 60, 30, patient=True)
    assert measure_size(both.volume(), both.patient) == measure_size(alone.volume(), alone.patient)


def test_a_patient_on_the_side_is_as_wide_as_on_the_back() -> None:
    lying = ellipse(200, 120).volume()
    turned = replace(lying.grid, axes=((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0)))
    mask = lying.hu > 0
    back, side = measure_size(lying, mask), measure_size(Volume(grid=turned, hu=lying.hu), mask)
    assert (side.ap_mm, side.lat_mm) == (back.lat_mm, back.ap_mm)
    assert side.effective_diameter_mm == back.effective_diameter_mm


def test_slices_that_the_field_of_view_cuts_are_left_out_where_others_are_whole() -> None:
    scene = ellipse(200, 200)
    scene.patient[:8, 20:320, :] = True
    scene.hu[scene.patient] = 30
    size = measure_size(scene.volume(), scene.patient)
    assert size.cut == 0.4
    assert size.effective_diameter_mm == pytest.approx(200.0, rel=0.005)
    assert not size.is_lower_limit


def test_a_patient_cut_in_most_slices_is_at_least_as_large() -> None:
    scene = Scene(shape=SHAPE, spacing_mm=SPACING)
    scene.patient[:, 20:320, :] = True
    size = measure_size(scene.volume(), scene.patient)
    assert size.is_lower_limit
    assert size.effective_diameter_mm == pytest.approx(2 * np.sqrt(300 * 340 / np.pi))


def test_the_circle_of_the_reconstruction_cuts_too() -> None:
    scene = ellipse(450, 450)
    j, i = np.ogrid[:340, :340]
    outside = np.hypot(j - 169.5, i - 169.5) > 170
    scene.hu[:, outside] = -1000
    scene.patient &= ~outside
    assert measure_size(scene.volume(), scene.patient).cut == 1.0


def test_an_empty_body_has_no_size() -> None:
    scene = Scene(shape=SHAPE, spacing_mm=SPACING)
    with pytest.raises(ValueError, match="empty"):
        measure_size(scene.volume(), scene.patient)
