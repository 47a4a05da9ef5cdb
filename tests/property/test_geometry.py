"""Geometry that must hold for every grid and every order of slices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orgseg_node.core.geometry import Box, Grid, SliceStack, Vector
from orgseg_node.core.resample import (
    MAX_GROWTH,
    ON_PLANE_FRACTION,
    ON_PLANE_MM,
    grid_for,
    resample_hu_to_grid,
    to_slices,
)
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.reading.slices import CtSlice, PlacedSlice
from orgseg_node.dicom.reading.stacking import stack
from orgseg_node.errors import DuplicateSlices

finite = st.floats(-2000, 2000, allow_subnormal=False)
points = st.tuples(finite, finite, finite)
spacings = st.floats(0.2, 10)
angles = st.floats(-0.4, 0.4)


def rotation(rx: float, ry: float, rz: float) -> np.ndarray:
    """(3, 3) rotation matrix."""
    cx, sx, cy, sy, cz, sz = np.cos(rx), np.sin(rx), np.cos(ry), np.sin(ry), np.cos(rz), np.sin(rz)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def vector(values: np.ndarray) -> Vector:
    """Three floats."""
    x, y, z = (float(v) for v in values)
    return x, y, z


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Any grid in any orientation."""
    turn = rotation(draw(st.floats(-3, 3)), draw(st.floats(-1.5, 1.5)), draw(st.floats(-3, 3)))
    return Grid(
        shape=draw(st.tuples(*[st.integers(1, 40)] * 3)),
        spacing_mm=draw(st.tuples(spacings, spacings, spacings)),
        origin_mm=draw(points),
        axes=(vector(turn[:, 2]), vector(turn[:, 1]), vector(turn[:, 0])),
    )


@given(grids(), st.lists(points, min_size=1, max_size=5))
def test_index_and_place_are_inverse(grid: Grid, places: list[Vector]) -> None:
    assert np.allclose(grid.to_lps(grid.to_index(places)), places, atol=1e-6)


@given(grids(), st.data())
def test_a_crop_moves_no_voxel(grid: Grid, data: st.DataObject) -> None:
    start = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape, strict=True))
    cropped = grid.crop(Box(start=start, stop=stop))  # type: ignore[arg-type]  # three integers each
    corner = np.subtract(stop, start) - 1
    assert np.allclose(cropped.to_lps([corner]), grid.to_lps([np.add(start, corner)]), atol=1e-6)


@given(grids())
def test_neighbouring_voxels_are_their_spacing_apart(grid: Grid) -> None:
    origin, *steps = grid.to_lps([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
    assert np.allclose([np.linalg.norm(step - origin) for step in steps], grid.spacing_mm)
    assert abs(np.linalg.det(grid.affine[:3, :3])) == pytest.approx(grid.voxel_ml * 1000)


@st.composite
def series(draw: st.DrawFn) -> tuple[list[PlacedSlice], Grid]:
    """Clean slices of any patient position, slightly oblique, in any order; and where they truly are."""
    turn = rotation(draw(angles) / 2, draw(angles) / 2, draw(st.floats(-3.1, 3.1)))
    if draw(st.booleans()):
        turn = turn @ np.diag([-1.0, 1.0, -1.0])  # feet first
    row, column, normal = turn.T
    count, gap, pixel = draw(st.integers(3, 30)), draw(st.floats(0.4, 10)), draw(st.floats(0.2, 5))
    origin = np.array(draw(points))
    slices = [
        PlacedSlice(
            image=CtSlice(
                path=Path(f"{k}"),
                sop_class_uid="1",
                sop_instance_uid=f"1.{k}",
                transfer_syntax_uid="1",
                position_mm=vector(np.round(origin + k * gap * normal, 6)),
                position_ds=("", "", ""),
                orientation=tuple(np.round([*row, *column], 7)),
                slope=1.0,
                intercept=0.0,
                signed=False,
                bits_stored=16,
            ),
            patient="",
            study_uid="1",
            series_uid="1",
            frame_uid="1",
            rows=4,
            columns=5,
            pixel_spacing_mm=(pixel, pixel),
            patient_position="",
            tilt_deg=0.0,
            uids_from_meta=False,
        )
        for k in range(count)
    ]
    truth = Grid(
        shape=(count, 4, 5),
        spacing_mm=(gap, pixel, pixel),
        origin_mm=vector(origin),
        axes=(vector(normal), vector(column), vector(row)),
    )
    return draw(st.permutations(slices)), truth


@settings(max_examples=100)
@given(series())
def test_slices_in_any_order_and_position_give_the_true_grid(made: tuple[list[PlacedSlice], Grid]) -> None:
    slices, truth = made
    found = stack(slices)
    assert [s.image.sop_instance_uid for s in found.slices] == [f"1.{k}" for k in range(len(slices))]
    corners = [(0, 0, 0), tuple(n - 1 for n in truth.shape)]
    assert found.is_regular
    assert np.allclose(found.grid.to_lps(corners), truth.to_lps(corners), atol=1e-3)
    assert np.allclose(found.slice_stack.to_lps(corners), truth.to_lps(corners), atol=1e-3)


@given(series(), st.data())
def test_an_inner_slice_that_is_missing_is_always_noticed(
    made: tuple[list[PlacedSlice], Grid], data: st.DataObject
) -> None:
    slices, truth = made
    inner = [s for s in slices if s.image.sop_instance_uid not in {"1.0", f"1.{len(slices) - 1}"}]
    gone = data.draw(st.sampled_from(inner))
    assume(len(slices) > 4)
    found = stack([s for s in slices if s is not gone])
    assert not found.is_regular
    assert [(f.code, f.value) for f in found.findings if "OBLIQUE" not in f.code] == [
        ("SERIES_MISSING_SLICES", 1.0)
    ]
    # the network's grid is the one the complete series would have
    assert found.grid.shape == truth.shape
    assert np.allclose(found.grid.to_lps([(0, 0, 0)]), truth.to_lps([(0, 0, 0)]), atol=1e-2)


@given(series(), st.data())
def test_a_doubled_slice_is_always_noticed(made: tuple[list[PlacedSlice], Grid], data: st.DataObject) -> None:
    slices, _ = made
    twin = data.draw(st.sampled_from(slices))
    twin = replace(twin, image=replace(twin.image, sop_instance_uid="2"))
    with pytest.raises(DuplicateSlices):
        stack([*slices, twin])


@given(series(), st.floats(0.02, 0.5))
def test_sheared_slices_are_always_noticed_and_keep_their_places(
    made: tuple[list[PlacedSlice], Grid], tangent: float
) -> None:
    slices, truth = made
    column = np.array(truth.axes[1])
    sheared = []
    for one in slices:
        shift = tangent * int(one.image.sop_instance_uid[2:]) * truth.spacing_mm[0] * column
        place = vector(np.array(one.image.position_mm) + shift)
        sheared.append(replace(one, image=replace(one.image, position_mm=place)))
    assume(tangent * truth.spacing_mm[0] * (len(slices) - 1) > 0.11)
    found = stack(sheared)
    tilts = [f.value for f in found.findings if f.code == "SERIES_GANTRY_TILT"]
    assert tilts == pytest.approx([np.degrees(np.arctan(tangent))], abs=0.01)
    for k, one in enumerate(found.slices):
        assert np.allclose(found.slice_stack.to_lps([(k, 0, 0)])[0], one.image.position_mm)
    corners = [(k, j, i) for k in (0, len(slices) - 1) for j in (0, 3) for i in (0, 4)]
    inside = found.grid.to_index(found.slice_stack.to_lps(corners))
    assert (inside > -0.1).all()
    assert (inside < np.array(found.grid.shape) - 0.9).all()


@st.composite
def stacks(draw: st.DrawFn) -> SliceStack:
    """Slices of any direction at uneven distances, sheared as with a tilted gantry or shifted a little."""
    turn = rotation(draw(st.floats(-3, 3)), draw(st.floats(-1.5, 1.5)), draw(st.floats(-3, 3)))
    row, column, normal = turn.T
    gaps = draw(st.lists(st.floats(0.3, 20), min_size=1, max_size=12))
    heights = np.cumsum([0.0, *gaps])
    shear = np.array([draw(st.floats(-0.6, 0.6)), draw(st.floats(-0.6, 0.6))])
    shifts = heights[:, None] * shear
    positions = np.array(draw(points)) + heights[:, None] * normal + shifts @ np.array([row, column])
    return SliceStack(
        shape=(len(heights), draw(st.integers(1, 9)), draw(st.integers(1, 9))),
        positions_mm=positions,
        orientations=np.tile([row, column], (len(heights), 1, 1)),
        pixel_spacing_mm=(draw(st.floats(0.3, 4)), draw(st.floats(0.3, 4))),
    )


@given(stacks(), st.data())
def test_index_and_place_in_a_stack_are_inverse(place: SliceStack, data: st.DataObject) -> None:
    ranges = [st.floats(0, n - 1) for n in place.shape]
    indices = data.draw(st.lists(st.tuples(*ranges), min_size=1, max_size=5))
    assert np.allclose(place.to_index(place.to_lps(indices)), indices, atol=1e-5)


@given(stacks())
def test_the_slices_of_a_stack_lie_where_their_headers_say(place: SliceStack) -> None:
    for k, (position, (row, column)) in enumerate(zip(place.positions_mm, place.orientations, strict=True)):
        row_mm, column_mm = place.pixel_spacing_mm
        there = position + 2 * column_mm * row + 3 * row_mm * column
        assert np.allclose(place.to_lps([(k, 3, 2)])[0], there, atol=1e-9)


@given(stacks())
def test_the_grid_of_a_stack_holds_all_of_it_and_is_not_much_larger(place: SliceStack) -> None:
    grid = grid_for(place)
    corners = [(k, j, i) for k in range(place.shape[0]) for j in (0, place.shape[1] - 1) for i in (0,)]
    index = grid.to_index(place.to_lps(corners))
    near = max(ON_PLANE_MM, ON_PLANE_FRACTION * grid.spacing_mm[0]) / grid.spacing_mm[0]
    assert (index >= [-near - 1e-6, -0.1, -0.1]).all()
    assert (index <= np.array(grid.shape) - 1 + [near + 1e-6, 0.1, 0.1]).all()
    assert grid.shape[0] <= MAX_GROWTH * place.shape[0] + 2


@given(stacks(), st.integers(0, 2**32 - 1))
def test_labels_on_slices_that_lie_on_the_grid_come_back_to_the_voxel(place: SliceStack, seed: int) -> None:
    grid = grid_for(place)
    on_slices = np.random.default_rng(seed).integers(0, 4, place.shape).astype(np.int16)
    labels = resample_hu_to_grid(on_slices, place, grid).clip(0).astype(np.uint8)
    back = to_slices(LabelMap(grid=grid, labels=labels, organs={}), place).labels
    index = grid.to_index(place.positions_mm)
    near = max(ON_PLANE_MM, ON_PLANE_FRACTION * grid.spacing_mm[0]) / grid.spacing_mm[0]
    off_plane = np.abs(index[:, 0] - np.rint(index[:, 0]))
    off_pixel = np.abs(index[:, 1:] - np.rint(index[:, 1:])).max(axis=1)
    planes = np.rint(index[:, 0])
    for k in np.flatnonzero((off_plane < 0.99 * near) & (off_pixel < 0.04)):
        if (np.abs(index[:, 0] - planes[k]) >= off_plane[k]).all():  # no other slice is nearer to its plane
            assert np.array_equal(back[k], on_slices[k])


@given(stacks())
def test_the_voxels_of_a_stack_fill_its_height(place: SliceStack) -> None:
    heights = place.heights_mm
    row_mm, column_mm = place.pixel_spacing_mm
    gaps = np.diff(heights)
    filled = float(heights[-1] - heights[0] + (gaps[0] + gaps[-1]) / 2)
    assert place.slice_ml.sum() * 1000 == pytest.approx(filled * row_mm * column_mm)
