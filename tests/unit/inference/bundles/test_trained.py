"""What nnU-Net left on disk is read, and what cannot be run is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.errors import ModelNotImportable
from orgseg_node.inference.bundles.trained import choose_folds, find_trained, open_trained, refuse_unusable

_NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def _plans(**changes: Any) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "patch_size": [16, 16, 16],
        "spacing": [3, 2, 2],
        "preprocessor_name": "DefaultPreprocessor",
        "normalization_schemes": ["CTNormalization"],
        **{
            f"resampling_fn_{what}{options}": {} if options else "resample_data_or_seg_to_shape"
            for what in ("data", "probabilities")
            for options in ("", "_kwargs")
        },
        "architecture": {
            "network_class_name": _NETWORK,
            "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv3d", "dropout_op": None},
            "_kw_requires_import": ["conv_op", "dropout_op"],
        },
    }
    intensities = {"mean": 40.0, "std": 120.0, "percentile_00_5": -200.0, "percentile_99_5": 300.0}
    return {
        "dataset_name": "Dataset1_A",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {"3d_fullres": configuration | changes},
    }


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
        ({}, {"labels": {"background": 0, "spleen": "1"}}, "spleen have no whole number"),
        ({}, {"labels": {"air": 0, "spleen": 1}}, "must be 'background' and is 'air'"),
        ({}, {"labels": {"Background": 0, "spleen": 1}}, "must be 'background' and is 'Background'"),
        ({}, {"labels": {"background": 0, "spleen": 1, "liver": 5}}, "no label 2, but a label 5"),
        ({}, {"labels": {"background": 0, "spleen": 1, "liver": 2, "gall": 2}}, "label 2 has 2 names"),
        ({}, {"labels": {"background": 0, "ignore": 1, "spleen": 2}}, "'ignore' is 1; .* last number, 2"),
        ({}, {"labels": {"0": "background", "1": "rib", "2": "rib"}}, "NUMBER: NAME, .* a name occurs twice"),
        ({}, {"channel_names": {"0": "MR_T1_subtraction"}}, "'MR_T1_subtraction', not CT"),
        ({"normalization_schemes": ["ZScoreNormalization"]}, {"channel_names": {"0": "scan"}}, "'scan'"),
        ({"normalization_schemes": ["ZScoreNormalization"]}, {"channel_names": {}}, "names no input channel"),
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


def test_a_stopped_training_of_another_configuration_is_left_out_and_said(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "Dataset1_A")
    stopped = folder.with_name("nnUNetTrainer__nnUNetPlans__2d")
    shutil.copytree(folder, stopped)
    (stopped / "fold_0" / "checkpoint_final.pth").unlink()
    (model,) = find_trained(tmp_path)
    assert model.folder == folder
    assert "nnUNetTrainer__nnUNetPlans__2d beside it is left out: No fold" in model.beside[0]
    with pytest.raises(ModelNotImportable, match="No fold of 'nnUNetTrainer__nnUNetPlans__2d'"):
        find_trained(tmp_path, configuration="2d")


def test_a_stopped_training_of_the_wanted_configuration_is_never_replaced(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "Dataset1_A")
    lower = folder.with_name("nnUNetTrainer__nnUNetPlans__3d_lowres")
    shutil.copytree(folder, lower)
    (folder / "fold_0" / "checkpoint_final.pth").unlink()
    with pytest.raises(ModelNotImportable, match="No fold of 'nnUNetTrainer__nnUNetPlans__3d_fullres'"):
        find_trained(tmp_path)


def test_models_behind_links_are_found_and_a_link_that_leads_back_ends(tmp_path: Path) -> None:
    place = _folder(tmp_path / "disk" / "Dataset1_A").parent
    (place / "back").symlink_to(tmp_path / "results")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "Dataset1_A").symlink_to(place)
    found = find_trained(tmp_path / "results")
    assert [model.folder.parent for model in found] == [tmp_path / "results" / "Dataset1_A"]


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


@pytest.mark.parametrize("channel", ["CT", "ct", "planning_CT", "CT_contrast", "CBCT", "scan"])
def test_a_channel_that_is_normalised_as_ct_is_taken_as_ct(channel: str) -> None:
    refuse_unusable(_plans(), _dataset(channel_names={"0": channel}), "3d_fullres")


def test_labels_as_nnunet_v1_wrote_them_are_turned_round(tmp_path: Path) -> None:
    old = _dataset(labels={"0": "background", "1": "spleen", "2": "liver"})
    model = open_trained(_folder(tmp_path, dataset=old))
    assert model.labels == {1: "spleen", 2: "liver"}
    assert "nnU-Net v1" in model.remarks[0]
    refuse_unusable(model.plans, model.dataset, "3d_fullres")


def test_a_missing_channel_name_is_the_ct_that_the_plans_normalise(tmp_path: Path) -> None:
    dataset = _dataset()
    del dataset["channel_names"]
    model = open_trained(_folder(tmp_path, dataset=dataset))
    assert model.dataset["channel_names"] == {"0": "CT"}
    assert "names no input channel" in model.remarks[0]


@pytest.mark.parametrize(
    ("left", "said"),
    [("checkpoint_latest.pth", "fold 4 has only checkpoint_latest"), (None, "no checkpoint")],
)
def test_a_fold_that_was_not_trained_to_its_end_is_never_left_out_unsaid(
    left: str | None, said: str, tmp_path: Path
) -> None:
    folder = _folder(tmp_path, folds=("0", "3", "4"))
    last = folder / "fold_4" / "checkpoint_final.pth"
    last.rename(last.with_name(left)) if left else last.unlink()
    model = open_trained(folder)
    with pytest.raises(ModelNotImportable, match=f"{said}.*--fold 0 --fold 3"):
        choose_folds(model, ())
    assert list(choose_folds(model, (0, 3))) == ["0", "3"]


def test_a_fold_for_which_nothing_else_was_trained_may_be_unfinished(tmp_path: Path) -> None:
    folder = _folder(tmp_path, folds=("0", "all"))
    (folder / "fold_0" / "checkpoint_final.pth").unlink()
    assert list(choose_folds(open_trained(folder), ())) == ["all"]


def test_a_copy_of_a_fold_is_no_fold(tmp_path: Path) -> None:
    model = open_trained(_folder(tmp_path, folds=("0", "0 (copy)", "00")))
    assert list(choose_folds(model, ())) == ["0"]
    assert model.remarks == (
        "The folder fold_0 (copy) is not a fold and is left out.",
        "The folder fold_00 is not a fold and is left out.",
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("Task501/nnUNetTrainerV2/plans.pkl",), "nnU-Net v1"),
        (("bundle/configs/metadata.json", "bundle/models/model.pt"), "MONAI"),
        (("plans.json",), "no fold_"),
    ],
)
def test_another_kind_of_model_is_refused_by_its_name(
    files: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(ModelNotImportable, match=expected):
        find_trained(tmp_path)
