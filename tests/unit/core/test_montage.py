"""The montage shows the patient the same way round, however the slices were stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orgseg_node.core.contours import trace
from orgseg_node.core.geometry import Grid
from orgseg_node.core.montage import Scene, _choose, _polygons, _views, montage
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.regions import Region
from orgseg_node.core.volume import LabelMap, Volume
from tests.support.ct.phantom import (
    AXIAL,
    CORONAL,
    FEET_FIRST,
    PRONE,
    SAGITTAL,
    PhantomOptions,
    grid_of,
    grid_points,
    hu_at,
    label_map_of,
)

ORIENTATIONS = {
    "axial": AXIAL,
    "feet first": FEET_FIRST,
    "prone": PRONE,
    "coronal": CORONAL,
    "sagittal": SAGITTAL,
}
SMALL = PhantomOptions(slices=20, rows=24, columns=28, pixel_spacing_mm=(9.0, 9.0), slice_spacing_mm=9.0)


@pytest.fixture(params=ORIENTATIONS)
def grid(request: pytest.FixtureRequest) -> Grid:
    return grid_of(replace(SMALL, orientation=ORIENTATIONS[request.param]))


def scene_on(grid: Grid, table: OrganTable) -> Scene:
    label_map = label_map_of(grid, table)
    volume = Volume(grid=grid, hu=hu_at(grid_points(grid)).astype(np.int16))
    return Scene(volume=volume, label_map=label_map, structures=trace(label_map))


def test_there_is_one_view_along_each_patient_axis(grid: Grid) -> None:
    assert {view.plane for view in _views(grid)} == {"axial", "coronal", "sagittal"}


def test_left_is_on_the_right_and_the_head_is_up(grid: Grid) -> None:
    """Screen right is the patient's left (or back, on sagittal views), screen up is the head (or front)."""
    for view in _views(grid):
        step = np.zeros(3)
        step[view.across] = -1.0 if view.flip_across else 1.0
        right = grid.to_lps([step])[0] - grid.to_lps([[0, 0, 0]])[0]
        step = np.zeros(3)
        step[view.down] = -1.0 if view.flip_down else 1.0
        below = grid.to_lps([step])[0] - grid.to_lps([[0, 0, 0]])[0]
        assert right["xyz".index({"axial": "x", "coronal": "x", "sagittal": "y"}[view.plane])] > 0
        if view.plane == "axial":
            assert below[1] > 0  # the back is below
        else:
            assert below[2] < 0  # the feet are below


def test_polygons_surround_the_organ_in_the_image(grid: Grid, organ_table: OrganTable) -> None:
    scene = scene_on(grid, organ_table)
    (view,) = [view for view in _views(grid) if view.fixed == 0]
    structure = scene.structures.structures[-1]
    k = structure.contours[0].k
    mask = scene.label_map.labels[k] == structure.label
    if view.across < view.down:
        mask = mask.T
    down, across = np.argwhere(mask).mean(axis=0)
    points = np.vstack(_polygons(structure, view, k))
    assert abs(points[:, 0].mean() - across) < 1.5
    assert abs(points[:, 1].mean() - down) < 1.5


def test_slices_are_chosen_only_where_organs_are(grid: Grid, organ_table: OrganTable) -> None:
    scene = scene_on(grid, organ_table)
    for view in _views(grid):
        chosen = _choose(scene, view)
        assert chosen == sorted(set(chosen))
        assert all((scene.label_map.labels.take(index, axis=view.fixed) > 0).any() for index in chosen)


def test_a_montage_can_be_drawn_of_every_orientation(grid: Grid, organ_table: OrganTable) -> None:
    assert montage(scene_on(grid, organ_table)).startswith(b"\x89PNG")


def test_a_single_voxel_is_enough_for_a_montage(organ_table: OrganTable) -> None:
    grid = grid_of(SMALL)
    labels = np.zeros(grid.shape, np.uint8)
    labels[0, 0, 0] = 1
    label_map = LabelMap(grid=grid, labels=labels, organs={1: organ_table["brainstem"]})
    volume = Volume(grid=grid, hu=np.zeros(grid.shape, np.int16))
    scene = Scene(volume=volume, label_map=label_map, structures=trace(label_map))
    assert montage(scene).startswith(b"\x89PNG")


def test_body_contour_is_drawn_if_it_is_sent(organ_table: OrganTable) -> None:
    grid = grid_of(SMALL)
    label_map = label_map_of(grid, organ_table)
    volume = Volume(grid=grid, hu=hu_at(grid_points(grid)).astype(np.int16))
    body = volume.hu > -300
    external = replace(organ_table["body"], key="external", name="External", interpreted_type="EXTERNAL")
    delivered = trace(label_map, regions=(Region.of(external, body, "outline of the patient"),))
    with_body = Scene.of(volume, label_map, delivered, body)
    assert with_body.external is not None
    assert with_body.external.contours
    assert montage(with_body) != montage(Scene.of(volume, label_map, delivered)), "it is drawn"
    assert Scene.of(volume, label_map, trace(label_map), body).external is None, "it is not sent"
