"""Where a voxel is."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from orgseg_node.core.geometry import (
    Box,
    Grid,
    SliceStack,
    box_out_of_part,
    enclosing_box,
)

GRID = Grid(shape=(4, 5, 6), spacing_mm=(3.0, 2.0, 1.0), origin_mm=(10.0, 20.0, 30.0))


def test_indices_are_slice_row_column_and_points_are_x_y_z() -> None:
    assert GRID.to_lps([(0, 0, 0)]).tolist() == [[10.0, 20.0, 30.0]]
    assert GRID.to_lps([(1, 0, 0)]).tolist() == [[10.0, 20.0, 33.0]]
    assert GRID.to_lps([(0, 1, 0)]).tolist() == [[10.0, 22.0, 30.0]]
    assert GRID.to_lps([(0, 0, 1)]).tolist() == [[11.0, 20.0, 30.0]]


def test_the_affine_does_what_to_lps_does() -> None:
    index = np.array([1.5, 2.0, 3.25])
    assert np.allclose(GRID.affine @ [*index, 1.0], [*GRID.to_lps([index])[0], 1.0])


def test_the_nifti_affine_takes_columns_first_and_points_right_anterior_up() -> None:
    i, j, k = 2, 1, 3
    x, y, z = GRID.to_lps([(k, j, i)])[0]
    assert np.allclose(GRID.ras_affine @ [i, j, k, 1], [-x, -y, z, 1])
    assert nibabel.aff2axcodes(GRID.ras_affine) == ("L", "P", "S")


def test_the_volume_of_a_voxel_is_in_millilitres() -> None:
    assert GRID.voxel_ml == pytest.approx(0.006)


def test_a_crop_keeps_every_voxel_in_its_place() -> None:
    box = Box(start=(1, 2, 3), stop=(4, 4, 6))
    cropped = GRID.crop(box)
    assert cropped.shape == box.shape == (3, 2, 3)
    assert np.allclose(cropped.to_lps([(1, 1, 1)]), GRID.to_lps([(2, 3, 4)]))


def test_a_crop_beyond_the_grid_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        GRID.crop(Box(start=(0, 0, 0), stop=(5, 5, 6)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (0, 5, 6)}, "no voxel"),
        ({"spacing_mm": (3.0, 0.0, 1.0)}, "positive"),
        ({"spacing_mm": (3.0, float("nan"), 1.0)}, "positive"),
        ({"axes": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.1))}, "orthogonal"),
        ({"axes": ((0.0, 0.0, 1.0), (0.0, 2.0, 0.0), (1.0, 0.0, 0.0))}, "orthogonal"),
    ],
)
def test_a_grid_that_cannot_be_is_an_error(settings: dict[str, object], message: str) -> None:
    given = {"shape": (4, 5, 6), "spacing_mm": (3.0, 2.0, 1.0), "origin_mm": (0.0, 0.0, 0.0)} | settings
    with pytest.raises(ValueError, match=message):
        Grid(**given)  # type: ignore[arg-type]  # wrong on purpose


def test_a_box_is_the_smallest_that_holds_the_mask() -> None:
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[1, 2, 3] = mask[3, 4, 3] = True
    box = Box.around(mask)
    assert (box.start, box.stop) == ((1, 2, 3), (4, 5, 4))
    assert mask[box.slices].sum() == 2


def test_the_margin_of_a_box_ends_at_the_array() -> None:
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[0, 3, 6] = True
    box = Box.around(mask, margin=(2, 1, 3))
    assert (box.start, box.stop) == ((0, 2, 3), (3, 5, 7))


def test_an_empty_mask_has_no_box() -> None:
    with pytest.raises(ValueError, match="empty"):
        Box.around(np.zeros((2, 2, 2), dtype=bool))


@pytest.mark.parametrize(("start", "stop"), [((0, 0, 0), (1, 0, 1)), ((-1, 0, 0), (1, 1, 1))])
def test_a_box_without_voxels_is_an_error(start: tuple[int, int, int], stop: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no voxel"):
        Box(start=start, stop=stop)


def tilted(heights: tuple[float, ...] = (0.0, 2.0, 5.0, 6.0)) -> SliceStack:
    """Axial slices whose first pixel moves by 1 mm along y for each 2 mm."""
    return SliceStack(
        shape=(len(heights), 5, 6),
        positions_mm=np.array([(10.0, 20.0 + h / 2, 30.0 + h) for h in heights]),
        orientations=np.tile([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)], (len(heights), 1, 1)),
        pixel_spacing_mm=(2.0, 1.0),
    )


def test_a_slice_of_a_stack_is_at_its_own_position() -> None:
    stack = tilted()
    assert stack.to_lps([(2, 0, 0), (2, 3, 4)]).tolist() == [[10.0, 22.5, 35.0], [14.0, 28.5, 35.0]]
    assert stack.to_lps([(1.5, 0, 0)]).tolist() == [[10.0, 21.75, 33.5]]
    assert stack.to_index([(14.0, 28.5, 35.0)]).tolist() == [[2.0, 3.0, 4.0]]


def test_the_slices_of_a_stack_reach_half_way_to_their_neighbours() -> None:
    assert tilted().heights_mm.tolist() == [30.0, 32.0, 35.0, 36.0]
    assert np.allclose(tilted().slice_ml, np.array([2.0, 2.5, 2.0, 1.0]) * 2.0 / 1000)


def test_a_grid_answers_as_a_stack_does() -> None:
    assert GRID.pixel_spacing_mm == (2.0, 1.0)
    assert GRID.heights_mm.tolist() == [30.0, 33.0, 36.0, 39.0]
    assert GRID.slice_ml.tolist() == [GRID.voxel_ml] * 4
    assert tilted().pixel_spacing_mm == (2.0, 1.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": (1, 5, 6)}, "less than two"),
        ({"shape": (4, 0, 6)}, "no pixels"),
        ({"shape": (3, 5, 6)}, "needs 3"),
        ({"positions_mm": np.full((4, 3), np.nan)}, "finite"),
        ({"pixel_spacing_mm": (0.0, 1.0)}, "positive"),
        ({"orientations": np.tile([(1.0, 0.0, 0.0), (0.1, 1.0, 0.0)], (4, 1, 1))}, "perpendicular"),
        ({"positions_mm": tilted().positions_mm[[0, 2, 1, 3]]}, "follow"),
    ],
)
def test_a_stack_that_cannot_be_is_an_error(changed: dict[str, object], message: str) -> None:
    stack = tilted()
    given = {name: getattr(stack, name) for name in stack.__slots__} | changed
    with pytest.raises(ValueError, match=message):
        SliceStack(**given)


def test_a_box_in_voxels_of_a_part_of_the_grid() -> None:
    part = Box(start=(2, 3, 4), stop=(6, 7, 8))
    inside = Box(start=(0, 1, 1), stop=(1, 4, 2))
    assert box_out_of_part(inside, part) == Box(start=(2, 4, 5), stop=(3, 7, 6))


def test_the_box_around_several_boxes() -> None:
    boxes = [Box(start=(2, 3, 4), stop=(3, 4, 9)), Box(start=(1, 5, 6), stop=(2, 6, 7))]
    assert enclosing_box(boxes) == Box(start=(1, 3, 4), stop=(3, 6, 9))
