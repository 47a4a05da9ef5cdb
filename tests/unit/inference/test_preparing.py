"""The CT for a network is in LPS, cropped to the patient and, if required, with air outside."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.body import Body
from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.volume import Volume
from orgseg_node.errors import BodyNotFound
from orgseg_node.inference.backends.network_view import view_for_network
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.engine.plans import PreprocessingPlan
from orgseg_node.inference.engine.working import HuNormalisation
from orgseg_node.inference.preparing import prepare_ct

_FEET_FIRST = ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))


def _patient(axes: tuple[tuple[float, float, float], ...] = _FEET_FIRST) -> tuple[Volume, Body]:
    k, j, i = axes
    grid = Grid(shape=(6, 8, 10), spacing_mm=(2.0, 1.0, 1.0), origin_mm=(0, 0, 0), axes=(k, j, i))
    hu = np.full(grid.shape, 50, dtype=np.int16)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[1:4, 3:6, 2:5] = True
    hu[1, 3, 2] = 700
    return Volume(grid=grid, hu=hu), Body(
        mask=mask, box=Box.around(mask), effective_diameter_mm=3.0, findings=()
    )


def test_the_crop_is_the_body_box_with_its_margin() -> None:
    prepared = prepare_ct(*_patient(), Preprocessing(body_margin_mm=2.0))
    assert prepared.volume.grid.shape == (5, 7, 7)
    assert (prepared.volume.hu >= 50).all()


def test_slices_of_a_feet_first_series_increase_to_the_head_afterwards() -> None:
    volume, body = _patient()
    prepared = prepare_ct(volume, body, Preprocessing())
    assert prepared.volume.grid.axes[0] == pytest.approx((0, 0, 1))
    place = np.argwhere(prepared.volume.hu == 700)
    assert prepared.volume.grid.to_lps(place) == pytest.approx(volume.grid.to_lps([(1, 3, 2)]))


def test_outside_the_margin_is_air_if_the_model_requires_it() -> None:
    volume, body = _patient()
    prepared = prepare_ct(volume, body, Preprocessing(outside_to_air=True, body_margin_mm=1.0))
    assert (prepared.volume.hu[prepared.mask] >= 50).all()
    assert (volume.hu >= 50).all()
    none = prepare_ct(volume, body, Preprocessing(outside_to_air=True))
    assert (none.volume.hu[~none.mask] == -1000).all()


def test_labels_return_to_their_voxels_of_the_original_ct() -> None:
    volume, body = _patient()
    prepared = prepare_ct(volume, body, Preprocessing(body_margin_mm=1.0))
    labels = (prepared.volume.hu == 700).astype(np.uint8)
    restored = prepared.restore(labels)
    assert restored.shape == volume.grid.shape
    assert np.argwhere(restored).tolist() == [[1, 3, 2]]


def test_a_box_goes_to_the_view_of_a_network_and_back() -> None:
    volume, body = _patient()
    prepared = prepare_ct(volume, body, Preprocessing(body_margin_mm=1.0))
    preprocessing = PreprocessingPlan(
        transpose=(2, 0, 1),
        spacing_mm=(1.0, 2.0, 1.0),
        normalisation=HuNormalisation(low=0.0, high=1000.0, mean=0.0, std=1000.0),
        force_separate_z=None,
    )
    view = view_for_network(prepared, preprocessing, "RAS")
    assert view is not None
    shape, crop = volume.grid.shape, prepared.volume.grid.shape
    box = Box(start=(1, 3, 2), stop=(3, 5, 3))
    mask = np.zeros(shape, dtype=bool)
    mask[box.slices] = True
    outside = Box(start=(5, 7, 9), stop=(6, 8, 10))
    in_view = view.boxes_of(prepared.boxes_of(Boxes.of([box, outside]), shape), crop)
    assert len(in_view) == 1
    around = Box.around(view.of(prepared.reorientation.apply(mask)[prepared.box.slices]))
    assert in_view.enclosing() == around
    assert prepared.restore_boxes(view.restore_boxes(in_view, crop), shape).enclosing() == box


def test_without_a_patient_nothing_is_prepared() -> None:
    volume, body = _patient()
    empty = Body(mask=np.zeros_like(body.mask), box=body.box, effective_diameter_mm=0.0, findings=())
    with pytest.raises(BodyNotFound):
        prepare_ct(volume, empty, Preprocessing())
