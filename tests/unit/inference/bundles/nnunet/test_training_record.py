"""A checkpoint and the files beside it must be of one training."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from orgseg_node.inference.bundles.nnunet.training_record import read_record
from tests.support.models.tiny_nnunet import TinyModel, tiny_dataset, tiny_plans

_NAME = "3d_fullres"


def _checkpoint(**changes: Any) -> dict[str, Any]:
    model = TinyModel()
    arguments = {"plans": tiny_plans(model), "dataset_json": tiny_dataset(model), "configuration": _NAME}
    return {"init_args": deepcopy(arguments) | changes}


def _plans(**changes: Any) -> dict[str, Any]:
    plans: dict[str, Any] = json.loads(json.dumps(tiny_plans(TinyModel())))
    plans["configurations"][_NAME] |= changes
    return plans


def _dataset(**labels: int) -> dict[str, Any]:
    return {"channel_names": {"0": "CT"}, "labels": {"background": 0} | (labels or {"spleen": 1, "liver": 2})}


@pytest.mark.parametrize("checkpoint", [_checkpoint(), {}, {"init_args": None}, _checkpoint(dataset_json=3)])
def test_files_of_one_training_agree_and_what_is_not_said_is_not_compared(checkpoint: dict[str, Any]) -> None:
    record = read_record(checkpoint, _plans(), _dataset(), _NAME)
    assert (record.problem, record.remarks, record.renamed) == ("", (), {})


def test_exchanged_numbers_are_a_contradiction() -> None:
    record = read_record(_checkpoint(), _plans(), _dataset(Liver=1, spleen=2), _NAME)
    assert "Liver was 2 and is 1; spleen was 1 and is 2." in record.problem


def test_a_reader_that_turns_images_is_no_small_difference() -> None:
    plans = _plans() | {"image_reader_writer": "NibabelIOWithReorient"}
    assert "decides the orientation" in read_record(_checkpoint(), plans, _dataset(), _NAME).problem
    plans["image_reader_writer"] = "NibabelIO"
    record = read_record(_checkpoint(), plans, _dataset(), _NAME)
    assert (record.problem, record.remarks) == (
        "",
        ("plans.json was changed after the training: image_reader_writer.",),
    )


def test_another_number_of_labels_is_a_contradiction() -> None:
    record = read_record(_checkpoint(), _plans(), _dataset(spleen=1), _NAME)
    assert record.problem == "The checkpoint has 2 labels, dataset.json 1."


def test_other_names_are_reported_by_number_and_case_and_signs_are_none() -> None:
    record = read_record(_checkpoint(), _plans(), _dataset(SPLEEN_=1, Leber=2), _NAME)
    assert record.problem == ""
    assert record.renamed == {2: "liver"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spacing": [1.0, 1.0, 1.0]}, "spacing"),
        ({"normalization_schemes": ["ZScoreNormalization"]}, "normalization_schemes"),
        ({"architecture": {"arch_kwargs": {}}}, "architecture"),
    ],
)
def test_values_that_change_what_the_network_sees_are_a_contradiction(
    changes: dict[str, Any], said: str
) -> None:
    problem = read_record(_checkpoint(), _plans(**changes), _dataset(), _NAME).problem
    assert problem == f"plans.json is not that of the training of the checkpoint, in: {said}."


def test_axes_and_intensities_are_compared() -> None:
    plans = _plans()
    plans["transpose_forward"] = [1, 0, 2]
    plans["foreground_intensity_properties_per_channel"]["0"]["mean"] = -300.0
    assert (
        "in: transpose_forward, intensities." in read_record(_checkpoint(), plans, _dataset(), _NAME).problem
    )


def test_classes_are_compared_by_name_since_their_modules_have_moved() -> None:
    plans = _plans()
    architecture = plans["configurations"][_NAME]["architecture"]
    architecture["network_class_name"] = (
        "dynamic_network_architectures.architectures.residual_unet.PlainConvUNet"
    )
    architecture["arch_kwargs"]["conv_op"] = "torch.nn.Conv3d"
    assert read_record(_checkpoint(), plans, _dataset(), _NAME).problem == ""


def test_a_patch_or_resampling_that_was_changed_is_only_said() -> None:
    changes = {"patch_size": [32, 32, 32], "resampling_fn_data": "resample_torch_fornnunet"}
    record = read_record(_checkpoint(), _plans(**changes), _dataset(), _NAME)
    assert record.problem == ""
    assert record.remarks == ("plans.json was changed after the training: patch_size, resampling_fn_data.",)


def test_another_configuration_and_another_kind_of_image_are_a_contradiction() -> None:
    plans = _plans()
    plans["configurations"]["3d_lowres"] = plans["configurations"][_NAME]
    record = read_record(_checkpoint(), plans, _dataset(), "3d_lowres")
    assert record.problem == "The checkpoint was trained as 3d_fullres, the folder says 3d_lowres."
    trained = tiny_dataset(TinyModel()) | {"channel_names": {"0": "T1"}}
    assert (
        "not trained on CT"
        in read_record(_checkpoint(dataset_json=trained), _plans(), _dataset(), _NAME).problem
    )


def test_numbers_of_numpy_in_a_checkpoint_are_numbers() -> None:
    checkpoint = _checkpoint()
    plans, dataset = (checkpoint["init_args"][key] for key in ("plans", "dataset_json"))
    configuration = plans["configurations"][_NAME]
    configuration["spacing"] = np.array(configuration["spacing"])
    plans["transpose_forward"] = [np.int64(axis) for axis in plans["transpose_forward"]]
    statistics = plans["foreground_intensity_properties_per_channel"]["0"]
    statistics |= {key: np.float32(value + 0.1) for key, value in statistics.items()}
    dataset["labels"] = {name: np.int64(number) for name, number in dataset["labels"].items()}
    now = _plans()
    now["foreground_intensity_properties_per_channel"] = {
        "0": {
            key: value + 0.1 for key, value in now["foreground_intensity_properties_per_channel"]["0"].items()
        }
    }
    record = read_record(checkpoint, now, _dataset(), _NAME)
    assert (record.problem, record.remarks, record.renamed) == ("", (), {})
    measured = now["foreground_intensity_properties_per_channel"]["0"]
    measured["mean"] += measured["std"] / 200
    record = read_record(checkpoint, now, _dataset(), _NAME)
    assert (record.problem, record.remarks) == (
        "",
        ("plans.json was changed after the training: intensities.",),
    )
    measured["mean"] += measured["std"] / 100
    assert "in: intensities" in read_record(checkpoint, now, _dataset(), _NAME).problem
