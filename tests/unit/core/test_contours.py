"""Contours give back the mask to the voxel and the volume to a fraction of a per cent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from orgseg_node.core.contours import Contour, Holes, Tracing, rasterise, trace, trace_mask
from orgseg_node.core.geometry import Box, Grid, Shape
from orgseg_node.core.keyhole import join_holes
from orgseg_node.core.loops import MARGIN, TOLERANCE, TOUCH, Loops, _thin
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.rasterise import crossings, label_crossings, mask_crossings, mask_of
from orgseg_node.core.regions import Region
from orgseg_node.core.volume import LabelMap
from tests.support.ct.objects import awkward_label_map, awkward_labels

SHAPE = (8, 40, 40)


def _grid(shape: Shape) -> Grid:
    return Grid(shape=shape, spacing_mm=(3.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))


def _area(points: NDArray[np.float64]) -> float:
    x, y = points.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _disc(radius: float, hollow: float = 0.0, size: int = 60) -> NDArray[np.bool_]:
    y, x = np.ogrid[:size, :size]
    distance = np.hypot(y - size / 2 + 0.3, x - size / 2 - 0.2)
    return ((distance <= radius) & (distance >= hollow))[None]


def _square(k: int, low: float, high: float) -> Contour:
    return Contour(k=k, points=np.array([(low, low), (high, low), (high, high), (low, high)]))


def _walked_once(contour: Contour) -> NDArray[np.float64]:
    return np.unique(contour.points, axis=0)


def test_awkward_organs_come_back_to_the_voxel(organ_table: OrganTable) -> None:
    label_map = awkward_label_map(_grid(SHAPE), organ_table)
    structure_set = trace(label_map)
    assert [s.label for s in structure_set.structures] == [1, 2, 3, 4, 5], "organ 6 has no voxel"
    assert structure_set.grid is label_map.grid
    for structure in structure_set.structures:
        assert structure.organ is label_map.organs[structure.label]
        np.testing.assert_array_equal(
            rasterise(structure.contours, label_map.grid), label_map.mask(structure.label)
        )


def test_every_contour_has_three_distinct_points(organ_table: OrganTable) -> None:
    structures = trace(awkward_label_map(_grid(SHAPE), organ_table)).structures
    assert min(len(_walked_once(c)) for s in structures for c in s.contours) >= 3


def test_lone_voxel_is_a_diamond_of_its_own_area() -> None:
    mask = np.zeros((1, 3, 3), dtype=bool)
    mask[0, 1, 1] = True
    (contour,) = trace_mask(mask)
    assert len(contour.points) == 4
    assert _area(contour.points) == pytest.approx(1.0, abs=1e-6)


def test_pixels_that_touch_at_a_corner_are_separate_contours() -> None:
    mask = np.eye(5, dtype=bool)[None]
    contours = trace_mask(mask)
    assert len(contours) == 5
    np.testing.assert_array_equal(rasterise(contours, _grid(mask.shape)), mask)


def test_holes_are_part_of_the_outline_and_islands_in_them_are_not() -> None:
    labels = awkward_labels(SHAPE)
    on_slice_2 = [c for c in trace_mask(labels == 1) if c.k == 2]
    assert len(on_slice_2) == 2, "the wall with its hole, and the island"
    assert len(trace_mask(labels == 5)) == 1, "one wall around three holes"


def test_full_slice_is_closed_at_the_border_of_the_image() -> None:
    mask = np.ones((2, 6, 7), dtype=bool)
    contours = trace_mask(mask)
    np.testing.assert_array_equal(rasterise(contours, _grid(mask.shape)), mask)
    assert _area(contours[0].points) == pytest.approx(42.0, rel=0.01)


@pytest.mark.parametrize("radius", [2.0, 4.0, 8.0, 20.0, 28.0])
@pytest.mark.parametrize("hollow", [0.0, 0.5])
def test_enclosed_area_is_that_of_the_voxels(radius: float, hollow: float) -> None:
    mask = _disc(radius, hollow * radius)
    area = sum(_area(contour.points) for contour in trace_mask(mask))
    assert area == pytest.approx(mask.sum(), abs=max(0.05, 0.0005 * mask.sum()))


def test_steps_are_smoothed_away() -> None:
    (contour,) = trace_mask(_disc(20))
    radii = np.linalg.norm(contour.points - (30.2, 29.7), axis=1)
    assert radii.std() < 0.15, "half-way vertices scatter by 0.2 pixels around a circle"


def test_no_vertex_comes_near_a_pixel_centre() -> None:
    random = np.random.default_rng(1)
    for contour in trace_mask(random.random((5, 30, 30)) < 0.5):
        distances = np.linalg.norm(contour.points - np.rint(contour.points), axis=1)
        assert distances.min() >= MARGIN - TOUCH - 1e-9


def test_large_contours_are_cut_and_still_give_the_mask() -> None:
    random = np.random.default_rng(2)
    for mask in (random.random((1, 24, 40)) < 0.7, random.random((1, 40, 24)) < 0.7, _disc(25, 20)):
        contours = trace_mask(mask, Tracing(max_points=60))
        assert max(len(contour.points) for contour in contours) <= 60
        np.testing.assert_array_equal(rasterise(contours, _grid(mask.shape)), mask)


def test_no_organ_gives_no_structure(organ_table: OrganTable) -> None:
    grid = _grid((2, 3, 3))
    empty = LabelMap(grid=grid, labels=np.zeros(grid.shape, np.uint8), organs={1: organ_table["liver"]})
    assert trace(empty).structures == ()
    assert trace_mask(np.zeros((2, 3, 3), dtype=bool)) == []


def test_label_without_organ_is_an_error_not_a_loss() -> None:
    grid = _grid((2, 3, 3))
    with pytest.raises(ValueError, match="Label 1"):
        trace(LabelMap(grid=grid, labels=np.ones(grid.shape, np.uint8), organs={}))


def test_even_odd_rule_makes_holes_of_nested_contours_and_counts_edges_once() -> None:
    grid = _grid((3, 10, 10))
    mask = rasterise([_square(1, 0.0, 8.0), _square(1, 2.5, 5.5)], grid)
    assert mask.sum() == 64 - 9
    assert mask[1, 0, 0]
    assert not mask[1, 8].any()
    assert not mask[1, :, 8].any()
    assert not mask[[0, 2]].any()


def test_contours_beyond_the_image_fill_up_to_its_border() -> None:
    assert rasterise([_square(0, -5.0, 20.0)], _grid((1, 4, 6))).all()
    assert not rasterise([_square(0, 7.5, 9.5)], _grid((1, 4, 6))).any()


def test_no_contours_and_empty_contours_give_an_empty_mask() -> None:
    empty = Contour(k=0, points=np.empty((0, 2)))
    assert not rasterise([], _grid((2, 4, 6))).any()
    mask = rasterise([empty, _square(1, 0.5, 2.5), empty], _grid((2, 4, 6)))
    assert mask.sum() == 4


@pytest.mark.parametrize("k", [-1, 2])
def test_contour_on_a_slice_that_is_not_there_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="slices"):
        rasterise([_square(k, 0.5, 2.5)], _grid((2, 4, 6)))


def test_a_bridge_through_pixel_centres_changes_nothing() -> None:
    outer, hole = _square(0, 0.5, 8.5).points, _square(0, 3.5, 5.5).points
    slanted = np.concatenate([outer[:1], hole, hole[:1], outer])  # along the diagonal, over pixel centres
    mask = rasterise([Contour(k=0, points=slanted)], _grid((1, 10, 10)))
    assert mask.sum() == 64 - 4


def test_flips_of_labels_are_those_of_their_masks() -> None:
    labels = np.random.default_rng(3).integers(0, 4, (4, 9, 11)).astype(np.uint8)
    flips = label_crossings(labels)
    assert set(flips) == {1, 2, 3}
    for label, flip in flips.items():
        np.testing.assert_array_equal(mask_of(flip, labels.shape), labels == label)
        np.testing.assert_array_equal(flip, crossings(trace_mask(labels == label), labels.shape))


def test_bridges_are_short_and_keep_clear_of_pixel_centres() -> None:
    (contour,) = trace_mask(awkward_labels(SHAPE)[6:7] == 5)
    points: Sequence[tuple[float, float]] = [(float(a), float(b)) for a, b in contour.points]
    edges = list(zip(points, [*points[1:], points[0]], strict=True))
    bridges = [(a, b) for a, b in edges if (b, a) in edges]
    assert len(bridges) == 6, "three bridges, walked both ways"
    for a, b in bridges:
        on_bridge = np.linspace(a, b, 50)
        assert np.linalg.norm(on_bridge - np.rint(on_bridge), axis=1).min() > 0.05
        assert np.linalg.norm(np.subtract(a, b)) < 2.0


def test_where_no_bridge_is_clear_the_clearest_is_taken() -> None:
    outer = np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)])
    hole = np.array([(1.0, 1.0), (1.0, 3.0), (3.0, 3.0), (3.0, 1.0)])
    assert len(join_holes(outer, [hole])) == 10


def test_thinned_loops_stay_within_tolerance() -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = 20 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    kept, starts = _thin(Loops(points=circle, starts=np.array([0])))
    assert starts.tolist() == [0]
    assert len(kept) < 120
    corners = circle[kept]
    middles = (corners + np.roll(corners, -1, axis=0)) / 2
    assert np.abs(np.linalg.norm(middles, axis=1) - 20).max() <= TOLERANCE


def test_organ_at_an_offset_is_traced_where_it_is(organ_table: OrganTable) -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[5, 20:23, 30:34] = 7
    label_map = LabelMap(grid=_grid(SHAPE), labels=labels, organs={7: organ_table["liver"]})
    (structure,) = trace(label_map).structures
    (contour,) = structure.contours
    assert contour.k == 5
    np.testing.assert_allclose(contour.points.mean(axis=0), (31.5, 21.0), atol=0.3)


@pytest.mark.parametrize(("holes", "count"), [(Holes.KEYHOLE, 2), (Holes.XOR, 3), (Holes.NESTED, 3)])
def test_holes_are_contours_of_their_own_where_asked_for(
    holes: Holes, count: int, organ_table: OrganTable
) -> None:
    label_map = awkward_label_map(_grid(SHAPE), organ_table)
    structures = trace(label_map, Tracing(holes=holes)).structures
    hollow, lone = structures[0], structures[1]
    assert len([contour for contour in hollow.contours if contour.k == 2]) == count
    assert hollow.has_holes is (holes is not Holes.KEYHOLE)
    assert not lone.has_holes
    for structure in structures:
        mask = rasterise(structure.contours, label_map.grid)
        np.testing.assert_array_equal(mask, np.equal(label_map.labels, structure.label))


@pytest.mark.parametrize("holes", [Holes.XOR, Holes.NESTED])
def test_a_hole_with_too_many_points_is_cut_with_its_outline(holes: Holes) -> None:
    mask = _disc(25, 20)
    contours = trace_mask(mask, Tracing(holes=holes, max_points=60))
    assert len(contours) > 2
    assert max(len(contour.points) for contour in contours) <= 60
    np.testing.assert_array_equal(rasterise(contours, _grid(mask.shape)), mask)


def test_regions_are_traced_beside_the_organs_and_may_overlap_them(organ_table: OrganTable) -> None:
    label_map = awkward_label_map(_grid(SHAPE), organ_table)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:7, 3:30, 2:40] = True
    box = Box.around(mask)
    region = Region(organ=organ_table["brain"], box=box, mask=mask[box.slices], derivation="A_Aorta + 5 mm")
    empty = replace(region, organ=organ_table["heart"], mask=np.zeros_like(region.mask))
    structure_set = trace(label_map, regions=[region, empty])
    last = structure_set.structures[-1]
    assert (last.label, last.derivation, last.organ.key) == (None, "A_Aorta + 5 mm", "brain")
    np.testing.assert_array_equal(rasterise(last.contours, label_map.grid), mask)
    assert [organ.key for organ in structure_set.missing] == ["spleen", "heart"]


def test_structures_come_in_the_order_asked_for(organ_table: OrganTable) -> None:
    label_map = awkward_label_map(_grid(SHAPE), organ_table)
    keys = [s.organ.key for s in trace(label_map, order=["rectum", "spleen", "liver"]).structures]
    assert keys == ["rectum", "liver", "aorta", "eyeball_left", "kidney_right"]


@pytest.mark.parametrize("start", [(0, 0, 0), (2, 3, 4)])
def test_flips_of_a_block_are_those_of_the_whole_mask(start: Shape) -> None:
    block = np.random.default_rng(4).random((3, 5, 7)) < 0.5
    whole = np.zeros((5, 8, 11), dtype=bool)
    k, j, i = start
    whole[k : k + 3, j : j + 5, i : i + 7] = block
    np.testing.assert_array_equal(mask_of(mask_crossings(block, start, whole.shape), whole.shape), whole)
