"""What nnU-Net left on disk is read, and what cannot be run is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.errors import ModelNotImportable
from orgseg_node.inference.bundles.trained import choose_folds, find_trained, open_trained, refuse_unusable

_NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def _plans(**changes: Any) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "patch_size": [16, 16, 16],
        "normalization_schemes": ["CTNormalization"],
        "architecture": {
            "network_class_name": _NETWORK,
            "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv3d", "dropout_op": None},
            "_kw_requires_import": ["conv_op", "dropout_op"],
        },
    }
    return {"dataset_name": "Dataset1_A", "configurations": {"3d_fullres": configuration | changes}}


def _dataset(**changes: Any) -> dict[str, Any]:
    return {"channel_names": {"0": "CT"}, "labels": {"background": 0, "spleen": 1, "ignore": 2}} | changes


def _folder(parent: Path, plans: Any = None, dataset: Any = None, folds: tuple[str, ...] = ("0",)) -> Path:
    folder = parent / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    for fold in folds:
        (folder / f"fold_{fold}").mkdir(parents=True)
        (folder / f"fold_{fold}" / "checkpoint_final.pth").touch()
    (folder / "plans.json").write_text(json.dumps(_plans() if plans is None else plans))
    (folder / "dataset.json").write_text(json.dumps(_dataset() if dataset is None else dataset))
    return folder


def test_a_plain_ct_model_is_accepted() -> None:
    refuse_unusable(_plans(), _dataset(), "3d_fullres")


@pytest.mark.parametrize(
    ("plans", "dataset", "expected"),
    [
        ({"patch_size": [16, 16]}, {}, "two-dimensional"),
        ({"previous_stage": "3d_lowres"}, {}, "cascade"),
        ({}, {"channel_names": {"0": "CT", "1": "PET"}}, "2 input channels"),
        ({"normalization_schemes": ["ZScoreNormalization"]}, {"channel_names": {"0": "T1"}}, "'T1', not CT"),
        ({}, {"labels": {"background": 0, "kidney": [1, 2], "tumour": 2}}, r"regions \(kidney\)"),
        ({}, {"regions_class_order": [1]}, "regions"),
        ({}, {"labels": {"background": 0, "spleen": "1"}}, "spleen have no number"),
        ({}, {"labels": {"air": 0, "spleen": 1}}, "not 'background'"),
        ({"architecture": {"network_class_name": "os.system", "arch_kwargs": {}}}, {}, "the class os.system"),
        (
            {
                "architecture": {
                    "network_class_name": _NETWORK,
                    "arch_kwargs": {"conv_op": "subprocess.Popen"},
                    "_kw_requires_import": ["conv_op"],
                }
            },
            {},
            "the class subprocess.Popen",
        ),
    ],
)
def test_a_model_that_cannot_be_run_is_refused_with_the_reason(
    plans: dict[str, Any], dataset: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ModelNotImportable, match=expected):
        refuse_unusable(_plans(**plans), _dataset(**dataset), "3d_fullres")


def test_a_configuration_inherits_missing_fields() -> None:
    plans = _plans()
    plans["configurations"]["child"] = {"inherits_from": "3d_fullres", "patch_size": [8, 8]}
    with pytest.raises(ModelNotImportable, match="child is two-dimensional"):
        refuse_unusable(plans, _dataset(), "child")
    plans["configurations"]["child"] = {"inherits_from": "child"}
    with pytest.raises(ModelNotImportable, match="no usable configuration child"):
        refuse_unusable(plans, _dataset(), "child")
    with pytest.raises(ModelNotImportable, match="no usable configuration other"):
        refuse_unusable(plans, _dataset(), "other")


def test_labels_configuration_and_folds_are_read(tmp_path: Path) -> None:
    model = open_trained(_folder(tmp_path / "Dataset1_A", folds=("10", "2", "all")))
    assert model.labels == {1: "spleen"}
    assert model.configuration == "3d_fullres"
    assert list(model.checkpoints) == ["2", "10", "all"]
    assert list(choose_folds(model, ())) == ["2", "10"]
    assert list(choose_folds(model, (2, "all"))) == ["2", "all"]
    with pytest.raises(ModelNotImportable, match="fold 5"):
        choose_folds(model, (5,))


def test_the_best_checkpoint_is_taken_where_there_is_no_final_one(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "fold_0" / "checkpoint_final.pth").rename(folder / "fold_0" / "checkpoint_best.pth")
    assert open_trained(folder).checkpoints["0"].name == "checkpoint_best.pth"
    (folder / "fold_0" / "checkpoint_best.pth").unlink()
    with pytest.raises(ModelNotImportable, match="No fold"):
        open_trained(folder)


@pytest.mark.parametrize(
    ("reader", "name", "orientation"),
    [
        ("SimpleITKIO", "Dataset1_A", "LPS"),
        ("NibabelIOWithReorient", "Dataset1_A", "RAS"),
        ("SimpleITKIO", "Dataset291_TotalSegmentator_part1_organs_1559subj", "RAS"),
    ],
)
def test_the_training_orientation_follows_from_reader_and_origin(
    reader: str, name: str, orientation: str, tmp_path: Path
) -> None:
    plans = _plans() | {"image_reader_writer": reader, "dataset_name": name}
    assert open_trained(_folder(tmp_path, plans=plans)).orientation == orientation


def test_several_models_are_found_in_the_order_of_their_paths(tmp_path: Path) -> None:
    _folder(tmp_path / "b")
    _folder(tmp_path / "a")
    assert [m.folder.parent.name for m in find_trained(tmp_path)] == ["a", "b"]


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotImportable, match=r"no plans\.json"):
        find_trained(tmp_path)


@pytest.mark.parametrize(
    ("plans", "dataset", "expected"),
    [
        ({}, None, r"plans\.json .* has no configurations"),
        (None, {"labels": {}}, r"dataset\.json .* has no labels"),
        ([1], None, "is not a table"),
    ],
)
def test_damaged_descriptions_are_refused(plans: Any, dataset: Any, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotImportable, match=expected):
        open_trained(_folder(tmp_path, plans, dataset))
    folder = _folder(tmp_path / "broken")
    (folder / "plans.json").write_text("{")
    with pytest.raises(ModelNotImportable, match="cannot be read"):
        open_trained(folder)
