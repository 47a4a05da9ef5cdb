"""A bundle for the benchmark: a U-Net of nnU-Net, trained for a minute or two on the phantom.

It is trained because random weights give labels that change from voxel to voxel, unlike organs; then every
voxel would have to be interpolated, and every rounding would change labels.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch.nn import functional

from benchmarks.as_trained import write_fold
from benchmarks.inference.phantom import slices
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import load_organs
from orgseg_node.core.volume import Volume
from orgseg_node.inference.backends.calibrating import measure_agreement, open_mode_predictors
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained, replace_calibration
from orgseg_node.shipped import shipped_config
from orgseg_training.nnunet.finite_steps import FiniteSteps, require_finite

FEATURES = {"small": (8, 16, 32, 64, 128, 128), "full": (32, 64, 128, 256, 320, 320)}
_LOW, _HIGH, _MEAN, _STD = -1000.0, 1000.0, -300.0, 500.0
_CROP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSpec:
    """The properties of the bundle."""

    classes: int
    folds: int
    patch: int
    spacing_mm: float
    features: str
    steps: int

    @property
    def name(self) -> str:
        """A name that contains all properties."""
        return f"{self.features}-{self.classes}c-{self.folds}f-{self.patch}p-{self.spacing_mm:g}mm"


def make_bundle(spec: BundleSpec, folder: Path, keys: Sequence[str] = ()) -> ModelBundle:
    """The bundle; it is trained if it does not exist.

    Parameters
    ----------
    spec : its properties
    folder : of bundles
    keys : of its organs; the first ones of the organ table if there are none
    """
    target = folder / spec.name
    if target.is_dir():
        return open_bundle(target)
    plans, dataset = nnunet_plans(spec), _dataset(spec)
    trained = folder / "trained" / spec.name / "Dataset900_Phantom" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    trained.mkdir(parents=True, exist_ok=True)
    (trained / "plans.json").write_text(json.dumps(plans))
    (trained / "dataset.json").write_text(json.dumps(dataset))
    network = build_network(plans, spec.classes)
    first = folder / "trained" / f"{spec.features}-{spec.classes}c-{spec.spacing_mm:g}mm.pt"
    for fold in range(spec.folds):
        kept = _kept_weights(first) if fold == 0 else None
        if kept is not None:
            network.load_state_dict(kept)
        else:
            _train(network, spec, steps=spec.steps if fold == 0 else 30, seed=fold)
        if fold == 0:
            torch.save(network.state_dict(), first)
        write_fold(network, trained / f"fold_{fold}")
    keys = keys or list(load_organs(shipped_config("organs.toml")))[: spec.classes - 1]
    part = PartDraft(folder=trained, label_map=dict(enumerate(keys, start=1)))
    draft = BundleDraft(
        name=spec.name,
        version="1",
        title="Benchmark",
        intended_use="benchmarks only",
        trained_on="a phantom",
        licence="none",
        card="# Benchmark",
    )
    return export_trained([part], draft, target, trusted=False)


def _kept_weights(path: Path) -> dict[str, torch.Tensor] | None:
    """Weights that were trained before; None if there are none, or if they are not finite."""
    if not path.exists():
        return None
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    if all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        return weights
    print(f"{path.name} holds weights that are not finite; the network is trained again", flush=True)
    path.unlink()
    return None


def calibrated(bundle: ModelBundle, spec: BundleSpec) -> ModelBundle:
    """The bundle with its fast mode measured on a part of the phantom that it was not trained on."""
    if bundle.manifest.calibration is not None:
        return bundle
    spacing = (2.0, 0.977, 0.977)
    hu, _ = slices(np.arange(100) * spacing[0], 400, spacing[1], spec.classes, seed=99)
    grid = Grid(shape=(100, 400, 400), spacing_mm=spacing, origin_mm=(0.0, 0.0, 0.0))
    modes = open_mode_predictors(bundle, load_organs(shipped_config("organs.toml")), None)
    today = dt.datetime.now().astimezone().date()
    measured = measure_agreement(modes, [Volume(grid=grid, hu=hu)], today, lambda *_: None)
    for each in measured.candidates:
        found = each.calibration
        result = "; ".join(found.shortcomings) or "accepted"
        lowest = min(organ.dice for organ in found.organs.values())
        print(f"calibration in {found.precision}: lowest Dice {lowest:.6f}, {result}", flush=True)
    accepted = measured.accepted
    return bundle if accepted is None else replace_calibration(bundle, accepted.calibration)


def build_network(plans: dict[str, Any], classes: int) -> torch.nn.Module:
    """A network as nnU-Net builds it from its plans, with random weights that are always the same."""
    torch.manual_seed(0)
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    return get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        classes,
        deep_supervision=False,
    )


def _train(network: torch.nn.Module, spec: BundleSpec, *, steps: int, seed: int) -> None:
    """A few steps on crops of the phantom at the spacing of the network."""
    rng = np.random.default_rng(seed)
    size, spacing = 224, spec.spacing_mm
    hu, labels = slices(np.arange(0, 400, spacing), size, spacing, spec.classes, seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    image = torch.from_numpy((np.clip(hu, _LOW, _HIGH).astype(np.float32) - _MEAN) / _STD).to(device)
    truth = torch.from_numpy(labels.astype(np.int64)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    finite_steps = FiniteSteps(optimizer)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    network.train()
    voxels = [np.argwhere(labels == number) for number in range(1, spec.classes)]
    voxels = [each for each in voxels if len(each)]
    for step in range(steps):
        middle = rng.choice(voxels[rng.integers(len(voxels))])  # all organs equally often
        middle = middle + rng.integers(-_CROP // 4, _CROP // 4, size=3)
        corner = np.clip(middle - _CROP // 2, 0, np.array(image.shape) - _CROP)
        crop = tuple(slice(int(p), int(p) + _CROP) for p in corner)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = network(image[crop][None, None])
        loss = functional.cross_entropy(logits.float(), truth[crop][None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        finite_steps.record(loss.item())
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            print(f"training {spec.name}, fold {seed}, step {step}: loss {loss.item():.3f}", flush=True)
    if finite_steps.undone:
        print(f"{finite_steps.undone} steps were not finite and were undone", flush=True)
    require_finite(network.cpu())
    network.eval()


def nnunet_plans(spec: BundleSpec) -> dict[str, Any]:
    """The content of ``plans.json``."""
    resample: dict[str, Any] = {}
    for what, seg, order in (("data", False, 3), ("seg", True, 1), ("probabilities", False, 1)):
        options = {"is_seg": seg, "order": order, "order_z": 0, "force_separate_z": None}
        resample |= {
            f"resampling_fn_{what}": "resample_data_or_seg_to_shape",
            f"resampling_fn_{what}_kwargs": options,
        }
    stages = min(6, int(math.log2(spec.patch)) - 1)
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [spec.patch] * 3,
        "median_image_size_in_voxels": [200.0, 300.0, 300.0],
        "spacing": [spec.spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **resample,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": list(FEATURES[spec.features][:stages]),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * stages,
                "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
                "n_conv_per_stage": [2] * stages,
                "n_conv_per_stage_decoder": [2] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    statistics = {"max": 3000.0, "mean": _MEAN, "median": 0.0, "min": -1000.0, "std": _STD}
    statistics |= {"percentile_00_5": _LOW, "percentile_99_5": _HIGH}
    return {
        "dataset_name": "Dataset900_Phantom",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [spec.spacing_mm] * 3,
        "original_median_shape_after_transp": [200, 300, 300],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": statistics},
    }


def _dataset(spec: BundleSpec) -> dict[str, Any]:
    labels = {"background": 0} | {f"organ_{n}": n for n in range(1, spec.classes)}
    return {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}


def main() -> None:
    """Make the bundle of the command line and print its folder: FOLDER SPEC_AS_JSON [fast]."""
    spec = BundleSpec(**json.loads(sys.argv[2]))
    bundle = make_bundle(spec, Path(sys.argv[1]))
    if sys.argv[3:] == ["fast"]:
        bundle = calibrated(bundle, spec)
    print(bundle.path)
