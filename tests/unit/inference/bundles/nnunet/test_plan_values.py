"""Axes, sizes and intensities of plans."""

from __future__ import annotations

from typing import Any

import pytest

from orgseg_node.inference.bundles.nnunet.plan_values import missing_problem, value_problem
from tests.support.models.tiny_nnunet import TinyModel, tiny_plans

_NAME = "3d_fullres"
_INTENSITIES = "foreground_intensity_properties_per_channel"


def _problem(plans: dict[str, Any], configuration: dict[str, Any]) -> str | None:
    return value_problem(plans, configuration) or missing_problem(plans, configuration)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (1, 0, 2)])
def test_plans_of_nnunet_have_all(transpose: tuple[int, int, int]) -> None:
    plans = tiny_plans(TinyModel(transpose=transpose))
    assert _problem(plans, plans["configurations"][_NAME]) is None


@pytest.mark.parametrize("key", ["patch_size", "spacing", "resampling_fn_data", "transpose_forward"])
def test_a_value_that_is_missing_is_named(key: str) -> None:
    plans = tiny_plans(TinyModel())
    configuration = plans["configurations"][_NAME]
    (plans if key in plans else configuration).pop(key)
    assert _problem(plans, configuration) == f"Its plans lack {key}."


def test_axes_must_lead_back() -> None:
    plans = tiny_plans(TinyModel(transpose=(1, 2, 0)))
    plans["transpose_backward"] = [1, 2, 0]
    assert "does not undo" in str(_problem(plans, plans["configurations"][_NAME]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spacing": [1.0, 1.0]}, "three numbers"),
        ({"spacing": [float("nan"), 1.0, 1.0]}, "no distance"),
        ({"patch_size": [15, 16, 16]}, r"no multiple of the strides of the network, [2, 2, 2]"),
    ],
)
def test_sizes_that_no_network_has_are_refused(changes: dict[str, Any], said: str) -> None:
    plans = tiny_plans(TinyModel())
    assert said in str(_problem(plans, plans["configurations"][_NAME] | changes))


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ({}, "lack the intensities of the training: mean, std"),
        ({"0": {"mean": 1.0, "percentile_00_5": 0.0, "percentile_99_5": 9.0}}, "training: std."),
        ({"0": {"mean": 1.0, "std": 0.0, "percentile_00_5": 0.0, "percentile_99_5": 9.0}}, "no spread"),
        ({"0": {"mean": 1.0, "std": 2.0, "percentile_00_5": 9.0, "percentile_99_5": 9.0}}, "no spread"),
    ],
)
def test_a_ct_is_normalised_by_intensities_that_exist(channels: dict[str, Any], said: str) -> None:
    plans = tiny_plans(TinyModel()) | {_INTENSITIES: channels}
    configuration = plans["configurations"][_NAME]
    assert said in str(_problem(plans, configuration))
    assert _problem(plans, configuration | {"normalization_schemes": ["ZScoreNormalization"]}) is None


def test_intensities_by_modality_are_those_of_the_first_versions() -> None:
    plans = tiny_plans(TinyModel())
    plans["foreground_intensity_properties_by_modality"] = plans.pop(_INTENSITIES)
    assert _problem(plans, plans["configurations"][_NAME]) is None
    plans["foreground_intensity_properties_by_modality"]["0"].pop("std")
    assert "training: std." in str(_problem(plans, plans["configurations"][_NAME]))
