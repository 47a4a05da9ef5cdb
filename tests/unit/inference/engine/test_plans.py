"""The plans are read as nnU-Net reads them, and what the engine cannot run is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape,
    determine_do_sep_z_and_axis,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from orgseg_node.errors import InferenceFailed, NotStreamable
from orgseg_node.inference.engine.plans import NetworkPlan, new_shape, read_network_plan, thick_axis
from tests.support.models.tiny_nnunet import TinyModel, tiny_dataset, tiny_plans


def _read(model: TinyModel | None = None, **changes: Any) -> NetworkPlan:
    """The plan of a tiny model, with changes to its configuration."""
    model = model or TinyModel()
    plans = tiny_plans(model)
    plans["configurations"][model.configuration] |= changes
    manager = PlansManager(plans)
    return read_network_plan(manager, manager.get_configuration(model.configuration), tiny_dataset(model))


def test_usual_plans_are_read() -> None:
    plan = _read(TinyModel(patch=(4, 8, 12), spacing_mm=(5.0, 1.5, 1.4), transpose=(2, 0, 1)))
    assert (plan.patch, plan.heads, plan.regions, plan.force_separate_z) == ((4, 8, 12), 3, None, None)
    assert (plan.preprocessing.transpose, plan.preprocessing.spacing_mm) == ((2, 0, 1), (5.0, 1.5, 1.4))
    normalisation = plan.preprocessing.normalisation
    assert (normalisation.low, normalisation.high, normalisation.mean, normalisation.std) == (
        -200.0,
        300.0,
        40.0,
        120.0,
    )


def test_the_smallest_tile_has_two_voxels_along_the_longest_axis_at_the_lowest_resolution() -> None:
    plan = _read(TinyModel(patch=(2, 8, 4)))
    assert plan.downsampling == (2, 2, 2)
    assert plan.smallest_tile == (2, 4, 2)


def test_plans_without_statistics_are_refused() -> None:
    plans = tiny_plans(TinyModel())
    plans["foreground_intensity_properties_per_channel"] = {}
    manager = PlansManager(plans)
    with pytest.raises(NotStreamable, match="intensities"):
        read_network_plan(manager, manager.get_configuration("3d_fullres"), tiny_dataset(TinyModel()))


def test_regions_write_their_labels_in_the_order_of_the_dataset() -> None:
    plan = _read(TinyModel(labels={"whole": [1, 2], "core": 2}, regions_order=(2, 1)))
    assert (plan.heads, plan.regions) == (2, (2, 1))


def test_equal_plans_have_equal_preprocessing_whatever_the_labels() -> None:
    assert _read().preprocessing == _read(TinyModel(labels={"heart": 1}, patch=(8, 8, 8))).preprocessing
    for change in (
        {"spacing_mm": (3.0, 2.0, 2.1)},
        {"transpose": (0, 2, 1)},
        {"mean_hu": 41.0},
        {"thick": True},
    ):
        assert _read().preprocessing != _read(replace(TinyModel(), **change)).preprocessing  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ct_mm", "network_mm", "thick", "axis"),
    [
        ((3.0, 1.0, 1.0), (2.0, 1.0, 1.0), None, None),
        ((3.1, 1.0, 1.0), (2.0, 1.0, 1.0), None, 0),
        ((2.0, 1.0, 1.0), (1.0, 1.0, 3.1), None, 2),
        ((6.0, 6.0, 1.0), (2.0, 2.0, 1.0), None, None),
        ((3.1, 1.0, 1.0), (2.0, 1.0, 1.0), False, None),
        ((1.0, 1.5, 1.0), (1.0, 1.0, 1.0), True, 1),
    ],
)
def test_thick_slices_are_judged_as_nnunet_does(
    ct_mm: tuple[float, float, float],
    network_mm: tuple[float, float, float],
    thick: bool | None,  # noqa: FBT001  # nnU-Net's tristate
    axis: int | None,
) -> None:
    preprocessing = _read(TinyModel(spacing_mm=network_mm, thick=thick)).preprocessing
    assert preprocessing.regrid((20, 20, 20), ct_mm).thick_axis == axis


def test_the_resampling_to_the_ct_checks_the_working_spacing_first() -> None:
    plan = _read(TinyModel(spacing_mm=(1.0, 1.0, 4.0)))
    assert plan.regrid((9, 9, 9), (10, 10, 10), (4.0, 1.0, 1.0)).thick_axis == 2
    assert plan.preprocessing.regrid((9, 9, 9), (4.0, 1.0, 1.0)).thick_axis == 0


def test_a_ct_too_thin_for_a_working_voxel_is_refused() -> None:
    preprocessing = _read(TinyModel(spacing_mm=(3.0, 2.0, 2.0))).preprocessing
    assert preprocessing.regrid((2, 9, 9), (1.0, 2.0, 2.0)).target == (1, 9, 9)
    with pytest.raises(InferenceFailed, match="thinner"):
        preprocessing.regrid((1, 9, 9), (1.0, 2.0, 2.0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"patch_size": [16, 16], "spacing": [2.0, 2.0]}, "2d configuration"),
        ({"previous_stage": "3d_lowres"}, "second stage of a cascade"),
        ({"preprocessor_name": "OtherPreprocessor"}, "OtherPreprocessor"),
        ({"normalization_schemes": ["ZScoreNormalization"]}, "ZScoreNormalization"),
        ({"normalization_schemes": ["CTNormalization"] * 2}, "CTNormalization, CTNormalization"),
        (
            {"resampling_fn_data": "resample_torch_fornnunet"},
            "resample_torch_fornnunet",
        ),  # with options of the other
        ({"resampling_fn_data": "resample_torch_simple"}, "resample_torch_simple"),
        ({"resampling_fn_probabilities": "no_resampling_hack"}, "no_resampling_hack"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_name(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(NotStreamable, match=expected):
        _read(**changes)


@pytest.mark.parametrize("what", ["data", "probabilities"])
@pytest.mark.parametrize(
    "option", [{"order": 2}, {"order_z": 1}, {"is_seg": True}, {"separate_z_anisotropy_threshold": 2}]
)
def test_other_options_of_resampling_are_refused_by_name(what: str, option: dict[str, Any]) -> None:
    usual = {"is_seg": False, "order": 3 if what == "data" else 1, "order_z": 0, "force_separate_z": None}
    (name,) = option
    with pytest.raises(NotStreamable, match=f"resample_data_or_seg_to_shape.*{name}"):
        _read(**{f"resampling_fn_{what}_kwargs": usual | option})


_SPACINGS = st.tuples(*[st.sampled_from([0.4, 0.9765625, 1.0, 1.25, 1.5, 2.0, 3.0, 3.0000001, 4.5, 6.0])] * 3)


@given(st.tuples(*[st.integers(1, 700)] * 3), _SPACINGS, _SPACINGS)
def test_a_new_grid_has_as_many_voxels_as_nnunet_gives_it(
    shape: tuple[int, int, int], old: tuple[float, float, float], new: tuple[float, float, float]
) -> None:
    assert new_shape(shape, old, new) == tuple(int(n) for n in compute_new_shape(shape, old, new))


@given(st.sampled_from([None, True, False]), _SPACINGS, _SPACINGS)
def test_slices_are_thick_where_nnunet_finds_them_thick(
    force: bool | None,  # noqa: FBT001  # nnU-Net's tristate
    old: tuple[float, float, float],
    new: tuple[float, float, float],
) -> None:
    separate, axis = determine_do_sep_z_and_axis(force, list(old), list(new))  # type: ignore[arg-type]
    assert thick_axis(force, old, new) == (int(np.asarray(axis)) if separate else None)
