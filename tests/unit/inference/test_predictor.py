"""How a network is run: invalid settings are refused, valid ones are described in words."""

from __future__ import annotations

import pytest

from orgseg_node.errors import ConfigError
from orgseg_node.inference.predictor import InferenceSettings


def test_all_invalid_settings_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        InferenceSettings(method="half", chunk_mm=40.0, overlap_mm=50.0, device="tpu", threads=0)
    assert all(word in caught.value.detail for word in ("half", "overlap_mm", "tpu", "threads"))


def test_the_method_is_described_with_its_parameters() -> None:
    assert InferenceSettings().method_description == "streaming, exact"
    assert InferenceSettings(method="whole").method_description == "whole"
    assert InferenceSettings(method="chunked").method_description == "chunked 300 mm, overlap 50 mm"
