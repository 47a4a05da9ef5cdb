"""What people write into dataset.json is read where it has one meaning, and refused otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from orgseg_node.inference.bundles.dataset_json import dataset_problem, read_dataset

_CT, _ZSCORE = ("CTNormalization",), ("ZScoreNormalization",)
_LABELS = {"background": 0, "spleen": 1, "liver": 2}


def _read(
    normalisations: tuple[str, ...] = _CT, **changes: Any
) -> tuple[dict[str, Any], list[str], str | None]:
    dataset, remarks = read_dataset(
        {"channel_names": {"0": "CT"}, "labels": _LABELS} | changes, normalisations
    )
    return dataset, remarks, dataset_problem(dataset, normalisations)


@pytest.mark.parametrize(
    "labels",
    [
        {"background": "0", "spleen": "1", "liver": " 2"},
        {"background": 0, "spleen": 1.0, "liver": 2.0},
        {"background": 0, "spleen": [1], "liver": [2]},
        {"Background": 0, "spleen": 1, "liver": 2},
        {"0": "BACKGROUND", "1": "spleen", "2": "liver"},
    ],
)
def test_labels_with_one_meaning_are_read_and_it_is_said(labels: dict[str, Any]) -> None:
    dataset, remarks, problem = _read(labels=labels)
    assert problem is None
    assert dataset["labels"] == _LABELS
    assert remarks


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "spleen": 1.5},
        {"background": 0, "spleen": True},
        {"background": 0, "spleen": "one"},
        {"background": 0, "spleen": [1, 2], "liver": [2]},
        {"background": 0, "organs": {"spleen": 1}},
        {"Background": 0, "BACKGROUND": 0, "spleen": 1},
        {"spleen": 1},
    ],
)
def test_labels_with_no_or_several_meanings_are_refused(labels: dict[str, Any]) -> None:
    assert _read(labels=labels)[2] is not None


def test_an_order_of_regions_without_regions_is_ignored_as_nnunet_does() -> None:
    dataset, _, problem = _read(regions_class_order=[1, 2])
    assert problem is None
    assert "regions_class_order" not in dataset


@pytest.mark.parametrize("channels", [{"CT": 0}, ["CT"], "CT", {"0": "CT"}])
@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_a_channel_is_read_in_every_spelling(channels: Any, key: str) -> None:
    dataset, _ = read_dataset({key: channels, "labels": _LABELS}, _CT)
    assert dataset[key] == {"0": "CT"}
    assert dataset_problem(dataset, _CT) is None


@pytest.mark.parametrize("channels", [{"MR": 0}, ["T1"], "MR", ["CT", "PET"], {"0": "SPECT"}])
def test_another_image_is_refused_in_every_spelling_although_the_plans_normalise_as_ct(channels: Any) -> None:
    assert _read(channel_names=channels)[2] is not None


@pytest.mark.parametrize("name", ["NCCT", "CECT", "4DCT", "CBCT", "pCT", "CTA", "planning_CT", "CT1"])
def test_names_of_cts_are_cts_however_they_are_normalised(name: str) -> None:
    assert _read(_ZSCORE, channel_names={"0": name})[2] is None


@pytest.mark.parametrize("name", ["PET/CT", "scan", "SPECT", "duct"])
def test_a_name_that_leaves_doubt_is_refused_without_the_normalisation_of_cts(name: str) -> None:
    problem = _read(_ZSCORE, channel_names={"0": name})[2]
    assert problem is not None
    assert "call it CT in dataset.json" in problem


def test_two_keys_that_name_other_channels_are_refused() -> None:
    assert "other input channels" in str(_read(modality={"0": "MR"})[2])
    dataset, _, problem = _read(modality={"0": "CT"})
    assert problem is None
    assert "modality" not in dataset
