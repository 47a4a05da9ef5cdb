"""Geometry that must hold for every grid and every order of slices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orgseg_node.core.geometry import Box, Grid, Vector
from orgseg_node.dicom.slices import CtSlice, Placed
from orgseg_node.dicom.stacking import regular_grid, stack
from orgseg_node.errors import DuplicateSlices, InputError, MissingSlices, TiltedGantry

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
def series(draw: st.DrawFn) -> tuple[list[Placed], Grid]:
    """Clean slices of any patient position, slightly oblique, in any order; and where they truly are."""
    turn = rotation(draw(angles) / 2, draw(angles) / 2, draw(st.floats(-3.1, 3.1)))
    if draw(st.booleans()):
        turn = turn @ np.diag([-1.0, 1.0, -1.0])  # feet first
    row, column, normal = turn.T
    count, gap, pixel = draw(st.integers(3, 30)), draw(st.floats(0.4, 10)), draw(st.floats(0.2, 5))
    origin = np.array(draw(points))
    slices = [
        Placed(
            image=CtSlice(
                path=Path(f"{k}"),
                sop_class_uid="1",
                sop_instance_uid=f"1.{k}",
                transfer_syntax_uid="1",
                position_mm=vector(np.round(origin + k * gap * normal, 6)),
                position_ds=("", "", ""),
                slope=1.0,
                intercept=0.0,
                signed=False,
                bits_stored=16,
            ),
            patient="",
            study_uid="1",
            series_uid="1",
            frame_uid="1",
            orientation=tuple(np.round([*row, *column], 7)),
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
def test_slices_in_any_order_and_position_give_the_true_grid(made: tuple[list[Placed], Grid]) -> None:
    slices, truth = made
    ordered, _ = stack(slices)
    assert [s.image.sop_instance_uid for s in ordered] == [f"1.{k}" for k in range(len(slices))]
    corners = [(0, 0, 0), tuple(n - 1 for n in truth.shape)]
    assert np.allclose(regular_grid(ordered).to_lps(corners), truth.to_lps(corners), atol=1e-3)


@given(series(), st.data())
def test_an_inner_slice_that_is_missing_is_always_noticed(
    made: tuple[list[Placed], Grid], data: st.DataObject
) -> None:
    slices, _ = made
    inner = [s for s in slices if s.image.sop_instance_uid not in {"1.0", f"1.{len(slices) - 1}"}]
    gone = data.draw(st.sampled_from(inner))
    with pytest.raises(InputError) as caught:
        stack([s for s in slices if s is not gone])
    assert len(slices) < 5 or isinstance(caught.value, MissingSlices)


@given(series(), st.data())
def test_a_doubled_slice_is_always_noticed(made: tuple[list[Placed], Grid], data: st.DataObject) -> None:
    slices, _ = made
    twin = data.draw(st.sampled_from(slices))
    twin = replace(twin, image=replace(twin.image, sop_instance_uid="2"))
    with pytest.raises(DuplicateSlices):
        stack([*slices, twin])


@given(series(), st.floats(0.02, 0.5))
def test_sheared_slices_are_always_noticed(made: tuple[list[Placed], Grid], tangent: float) -> None:
    slices, truth = made
    column = np.array(truth.axes[1])
    sheared = []
    for one in slices:
        shift = 0.11 * column + tangent * int(one.image.sop_instance_uid[2:]) * truth.spacing_mm[0] * column
        place = vector(
            np.array(one.image.position_mm) + (0 if one.image.sop_instance_uid == "1.0" else shift)
        )
        sheared.append(replace(one, image=replace(one.image, position_mm=place)))
    with pytest.raises(TiltedGantry):
        stack(sheared)
