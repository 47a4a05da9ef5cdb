"""Tiny real nnU-Net v2 models with random weights, on disk exactly as nnU-Net's trainer leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

_RESAMPLE, _BY_TORCH = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyModel:
    """What the tiny model is.

    Attributes
    ----------
    labels : name and number, without background
    spacing_mm : working spacing (z, y, x)
    patch : working patch (z, y, x)
    gain : contrast of the last layer; large makes labels that change from voxel to voxel, small makes logits
        near 0
    twins : give the last two channels the same weights, so that they are equal at every voxel
    regions_order : label number that each region writes, in the order of ``labels``; None for plain labels
    transpose : for each axis of the network, the axis of the image
    kernel, stride : of the two stages' convolutions, and between them
    residual : a ResidualEncoderUNet instead of a PlainConvUNet
    thick : ``force_separate_z`` for images, labels and logits
    by_torch : resampled by PyTorch
    mean_hu : mean of the training data
    normalisation : of its channel
    """

    labels: Mapping[str, int | list[int]] = field(default_factory=lambda: {"spleen": 1, "liver": 2})
    spacing_mm: tuple[float, float, float] = (3.0, 2.0, 2.0)
    patch: tuple[int, ...] = (16, 16, 16)
    folds: Sequence[int | str] = (0,)
    seed: int = 7
    configuration: str = "3d_fullres"
    mirror_axes: tuple[int, ...] | None = None
    reader: str = "SimpleITKIO"
    dataset_name: str = "Dataset901_Tiny"
    gain: float = 20.0
    twins: bool = False
    regions_order: tuple[int, ...] | None = None
    transpose: tuple[int, int, int] = (0, 1, 2)
    kernel: tuple[int, int, int] = (3, 3, 3)
    stride: tuple[int, int, int] = (2, 2, 2)
    residual: bool = False
    thick: bool | None = None
    by_torch: bool = False
    mean_hu: float = 40.0
    normalisation: str = "CTNormalization"

    @property
    def heads(self) -> int:
        """Number of output channels."""
        names = set(self.labels) - {"ignore"}
        return len(names) + (self.regions_order is None)


def tiny_plans(model: TinyModel) -> dict[str, Any]:
    """``plans.json`` of nnU-Net 2.8.1 for a two-stage network."""
    resampling: dict[str, Any] = {}
    for what, seg, order in (("data", False, 3), ("seg", True, 1), ("probabilities", False, 1)):
        kwargs = {"is_seg": seg, "order": order, "order_z": 0, "force_separate_z": model.thick}
        if model.by_torch:
            kwargs = {"is_seg": seg, "force_separate_z": model.thick, "memefficient_seg_resampling": False}
        function = _BY_TORCH if model.by_torch else _RESAMPLE
        resampling |= {f"resampling_fn_{what}": function, f"resampling_fn_{what}_kwargs": kwargs}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(model.patch),
        "median_image_size_in_voxels": [40.0, 40.0, 40.0],
        "spacing": list(model.spacing_mm),
        "normalization_schemes": [model.normalisation],
        "use_mask_for_norm": [False],
        **resampling,
        "architecture": _architecture(model),
        "batch_dice": False,
    }
    statistics = {"max": 3000.0, "mean": model.mean_hu, "median": 50.0, "min": -1000.0}
    statistics |= {"percentile_00_5": -200.0, "percentile_99_5": 300.0, "std": 120.0}
    return {
        "dataset_name": model.dataset_name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(model.spacing_mm),
        "original_median_shape_after_transp": [40, 40, 40],
        "image_reader_writer": model.reader,
        "transpose_forward": list(model.transpose),
        "transpose_backward": [model.transpose.index(axis) for axis in range(3)],
        "configurations": {model.configuration: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": statistics},
    }


def _architecture(model: TinyModel) -> dict[str, Any]:
    kind = "ResidualEncoderUNet" if model.residual else "PlainConvUNet"
    blocks = "n_blocks_per_stage" if model.residual else "n_conv_per_stage"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [4, 8],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [list(model.kernel), list(model.kernel)],
            "strides": [[1, 1, 1], list(model.stride)],
            blocks: [1, 1],
            "n_conv_per_stage_decoder": [1],
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


def tiny_dataset(model: TinyModel) -> dict[str, Any]:
    """``dataset.json``, with a list of training cases as older tools leave it."""
    order = {} if model.regions_order is None else {"regions_class_order": list(model.regions_order)}
    return {
        **order,
        "name": model.dataset_name,
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **model.labels},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "training": [{"image": "./imagesTr/Doe_John.nii.gz", "label": "./labelsTr/Doe_John.nii.gz"}],
    }


def write_tiny(results: Path, model: TinyModel | None = None) -> Path:
    """Write ``<results>/<dataset>/nnUNetTrainer__nnUNetPlans__<configuration>/`` and return that folder."""
    model = model or TinyModel()
    plans, dataset = tiny_plans(model), tiny_dataset(model)
    folder = results / model.dataset_name / f"nnUNetTrainer__nnUNetPlans__{model.configuration}"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "dataset_fingerprint.json").write_text("{}")
    for number, fold in enumerate(model.folds):
        place = folder / f"fold_{fold}"
        place.mkdir()
        torch.save(
            _checkpoint(model, plans, dataset, fold, model.seed + number), place / "checkpoint_final.pth"
        )
    return folder


def tiny_network(model: TinyModel, seed: int) -> torch.nn.Module:
    """The network with its random weights, as it is trained."""
    architecture = _architecture(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: torch.nn.Module = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            1,
            model.heads,
            allow_init=True,
            deep_supervision=True,
        )
    with torch.no_grad():
        for layer in network.decoder.seg_layers:
            layer.weight.mul_(model.gain)
            if model.twins:
                layer.weight[-1], layer.bias[-1] = layer.weight[-2], layer.bias[-2]
    return network


def _checkpoint(
    model: TinyModel, plans: dict[str, Any], dataset: dict[str, Any], fold: int | str, seed: int
) -> dict[str, Any]:
    network = tiny_network(model, seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.99, nesterov=True)
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float32(0.5)], "ema_fg_dice": [np.float64(0.5)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {
            "plans": plans,
            "configuration": model.configuration,
            "fold": fold,
            "dataset_json": dataset,
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": model.mirror_axes,
    }
