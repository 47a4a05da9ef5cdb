"""The metrics on shapes for which the values are known in closed form, as in published test sets of pairs.

Two spheres of radius r whose centres are d apart (d < 2 r): the distance of a point of one surface from the
other sphere is abs(s - r) with s its distance from the other centre. Over the surface, s ds is proportional
to the area, so this distance is uniform between 0 and d: its mean is d / 2, its 95th percentile 0.95 d, and
the share within t is t / d. Their overlap is two caps: Dice = 1 - 3 d / 4 r + d^3 / 16 r^3.

Surfaces of voxels have steps, whose nearest points are nearer to each other than the spheres are: distances
come out up to half a voxel smaller, by the definition that the reference program of the surface Dice has too.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from orgseg_node.core.metrics import compare
from orgseg_node.core.volume import Mask

SPACINGS = [(1.0, 1.0, 1.0), (2.0, 0.8, 0.8)]
Spacing = tuple[float, float, float]


def ball(radius_mm: float, spacing_mm: Spacing, shift_mm: Spacing = (0.0, 0.0, 0.0)) -> Mask:
    """A ball in a block of 100 mm."""
    axes = [
        (np.arange(round(100 / step)) + 0.37) * step - 50 - shift
        for step, shift in zip(spacing_mm, shift_mm, strict=True)
    ]
    z, y, x = np.ix_(*axes)
    return np.asarray(z * z + y * y + x * x <= radius_mm**2)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0), (0.0, 0.6, 0.8)])
@pytest.mark.parametrize("d", [4.0, 10.0])
def test_two_equal_spheres_apart(spacing_mm: Spacing, direction: Spacing, d: float) -> None:
    r = 30.0
    z, y, x = direction
    found = compare(ball(r, spacing_mm), ball(r, spacing_mm, (d * z, d * y, d * x)), spacing_mm, d / 4)
    voxel = max(spacing_mm)
    assert found.dsc == pytest.approx(1 - 3 * d / (4 * r) + d**3 / (16 * r**3), abs=0.005)
    assert found.jaccard == pytest.approx(found.dsc / (2 - found.dsc))
    assert -0.55 * voxel < found.msd_mm - d / 2 <= 0
    assert found.hd_mm == pytest.approx(d, abs=0.75 * voxel)
    assert found.hd95_mm == pytest.approx(0.95 * d, abs=0.6 * voxel)
    for value, within_mm in ((found.sdsc_3mm, 3.0), (found.sdsc_2mm, 2.0), (found.sdsc, d / 4)):
        assert within_mm / d <= value < (within_mm + 0.7 * voxel) / d
    assert found.reference_ml == pytest.approx(4 / 3 * math.pi * r**3 / 1000, rel=0.005)
    assert found.vd_ml == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_two_spheres_around_one_centre(spacing_mm: Spacing) -> None:
    """Every distance is the difference of the radii."""
    r, s = 25.0, 30.0
    found = compare(ball(r, spacing_mm), ball(s, spacing_mm), spacing_mm, s - r + max(spacing_mm))
    voxel = max(spacing_mm)
    assert found.dsc == pytest.approx(2 * r**3 / (r**3 + s**3), abs=0.005)
    for value in (found.msd_mm, found.hd95_mm, found.hd_mm):
        assert value == pytest.approx(s - r, abs=0.75 * voxel)
    assert -0.55 * voxel < found.msd_mm - (s - r) <= 0
    assert (found.sdsc_2mm, found.sdsc) == (0.0, 1.0)
    assert found.vd_ml == pytest.approx(4 / 3 * math.pi * (s**3 - r**3) / 1000, rel=0.01)


def test_a_cylinder_and_its_square() -> None:
    """A prism of square cross-section around a cylinder of the same width: Dice 2 pi / (pi + 4)."""
    r, slices, spacing_mm = 40, 5, (3.0, 1.0, 1.0)
    y, x = np.ix_(np.arange(100) - 49.5, np.arange(100) - 49.5)
    round_, square = np.zeros((9, 100, 100), bool), np.zeros((9, 100, 100), bool)
    round_[2 : 2 + slices], square[2 : 2 + slices] = y * y + x * x <= r * r, (abs(y) <= r) & (abs(x) <= r)
    found = compare(square, round_, spacing_mm)
    assert found.dsc == pytest.approx(2 * math.pi / (math.pi + 4), abs=0.005)
    assert found.hd_mm == pytest.approx((math.sqrt(2) - 1) * r, abs=1.0)
    assert found.reference_ml == pytest.approx(slices * 3.0 * (2 * r) ** 2 / 1000)
    contour = slices * 4 * (2 * r - 1)
    assert found.apl_mm / (found.apl_percent / 100) == pytest.approx(contour)
    assert found.apl_mm > 0.5 * contour, "the circle touches the square only near the middles of its sides"
