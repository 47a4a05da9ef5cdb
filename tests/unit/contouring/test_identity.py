"""The number of a job changes with everything the result depends on."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from orgseg_node.contouring.identity import ResultSettings, derive_job_id

SETTINGS = ResultSettings(models=("ab" * 32, "cd" * 32), method="whole", protocol_sha256="ef" * 32)

OTHERS = {
    "models": ("ab" * 32,),
    "method": "chunked 300 mm, overlap 50 mm",
    "protocol_sha256": "00" * 32,
    "seg": "labelmap",
    "version": "another",
}


def test_the_same_ct_under_the_same_settings_is_the_same_job() -> None:
    number = derive_job_id("1.2", "ab", SETTINGS)
    assert number == derive_job_id("1.2", "ab", replace(SETTINGS))
    assert len(number) == 16
    assert int(number, 16)


def test_another_series_or_another_content_is_another_job() -> None:
    numbers = {
        derive_job_id("1.2", "ab", SETTINGS),
        derive_job_id("1.3", "ab", SETTINGS),
        derive_job_id("1.2", "ac", SETTINGS),
    }
    assert len(numbers) == 3


@pytest.mark.parametrize("name", [field.name for field in fields(ResultSettings)])
def test_each_setting_makes_another_job(name: str) -> None:
    other = replace(SETTINGS, **{name: OTHERS[name]})
    assert derive_job_id("1.2", "ab", other) != derive_job_id("1.2", "ab", SETTINGS)


def test_the_order_of_the_models_counts() -> None:
    turned = replace(SETTINGS, models=SETTINGS.models[::-1])
    assert derive_job_id("1.2", "ab", turned) != derive_job_id("1.2", "ab", SETTINGS)


def test_the_borders_between_values_count() -> None:
    one = ResultSettings(models=("a", "b"))
    other = ResultSettings(models=("a",), method="b")
    assert derive_job_id("1.2", "ab", one) != derive_job_id("1.2", "ab", other)
