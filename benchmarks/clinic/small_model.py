"""A bundle with a network too small for patients, with random weights, from which the short form starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from benchmarks.as_trained import write_fold
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained

ORGANS: Final = ("mandible",)
_RESAMPLE: Final = "resample_data_or_seg_to_shape"
_ARCHITECTURE: Final[dict[str, Any]] = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [8, 16, 32],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}


def write_untrained(target: Path, work: Path, seed: int = 1) -> ModelBundle:
    """Write a bundle for one organ that has learned nothing.

    Parameters
    ----------
    target : folder of the bundle
    work : for nnU-Net's folder
    seed : of the weights
    """
    folder = work / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    folder.mkdir(parents=True)
    plans = _plans()
    labels = {"background": 0} | {organ: number for number, organ in enumerate(ORGANS, 1)}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 0, "file_ending": ".nii.gz"}
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    torch.manual_seed(seed)
    kwargs = dict(_ARCHITECTURE["arch_kwargs"])
    network = get_network_from_plans(
        _ARCHITECTURE["network_class_name"],
        kwargs,
        _ARCHITECTURE["_kw_requires_import"],
        1,
        len(labels),
        allow_init=True,
        deep_supervision=True,
    )
    write_fold(network, folder / "fold_0")
    draft = BundleDraft(
        name=target.name,
        version="0",
        title="Untrained",
        intended_use="Test of the way from an archive to a model. Not for patients.",
        trained_on="Nothing; its weights are random.",
        licence="none",
        card="Random weights.",
        preprocessing=Preprocessing(outside_to_air=True, body_margin_mm=3.0),
    )
    part = PartDraft(folder=folder, label_map=dict(enumerate(ORGANS, 1)))
    return export_trained([part], draft, target)


def _plans() -> dict[str, Any]:
    resampling: dict[str, Any] = {}
    for what, seg, order in (("data", False, 3), ("seg", True, 1), ("probabilities", False, 1)):
        kwargs = {"is_seg": seg, "order": order, "order_z": 0, "force_separate_z": None}
        resampling |= {f"resampling_fn_{what}": _RESAMPLE, f"resampling_fn_{what}_kwargs": kwargs}
    hu = {"max": 1000.0, "mean": 200.0, "median": 50.0, "min": -1000.0, "std": 300.0}
    hu |= {"percentile_00_5": -400.0, "percentile_99_5": 950.0}
    return {
        "dataset_name": "Dataset001_small",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [4.0, 4.0, 4.0],
        "original_median_shape_after_transp": [28, 40, 40],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": [16, 32, 32],
                "median_image_size_in_voxels": [28.0, 40.0, 40.0],
                "spacing": [4.0, 4.0, 4.0],
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                **resampling,
                "architecture": _ARCHITECTURE,
                "batch_dice": True,
            }
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": hu},
    }
