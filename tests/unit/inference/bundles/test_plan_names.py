"""Plans name code; only nnU-Net's own networks, layers and functions are accepted, each by its exact name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orgseg_node.inference.bundles.plan_names import plan_problem
from orgseg_node.shipped import shipped_bundles

_NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def _configuration(**changes: Any) -> dict[str, Any]:
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    usual = {
        "preprocessor_name": "DefaultPreprocessor",
        "normalization_schemes": ["CTNormalization"],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "architecture": _architecture(),
    }
    return usual | changes


def _architecture(name: str = _NETWORK, **arguments: Any) -> dict[str, Any]:
    usual = {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "conv_bias": True,
        "norm_op": "torch.nn.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    imported = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    return {"network_class_name": name, "arch_kwargs": usual | arguments, "_kw_requires_import": imported}


@pytest.mark.parametrize(
    "configuration",
    [
        _configuration(),
        _configuration(architecture=_architecture(norm_op="torch.nn.modules.batchnorm.BatchNorm3d")),
        _configuration(architecture=_architecture(features_per_stage=32, stem_channels=None)),
        _configuration(
            resampling_fn_data="resample_torch_fornnunet",
            resampling_fn_data_kwargs={
                "is_seg": False,
                "memefficient_seg_resampling": False,
                "mode": "linear",
            },
        ),
        {"UNet_class_name": "ResidualEncoderUNet", "preprocessor_name": "DefaultPreprocessor"},
    ],
)
def test_what_nnunet_writes_itself_is_accepted(configuration: dict[str, Any]) -> None:
    plans = {
        "label_manager": "LabelManager",
        "transpose_forward": [0, 2, 1],
        "transpose_backward": [0, 2, 1],
        "foreground_intensity_properties_per_channel": {"0": {"mean": -50.5, "std": 300, "min": -1024}},
    }
    sizes = {"patch_size": [64, 96, 96], "spacing": [3, 0.9765625, 0.9765625]}
    assert plan_problem(plans, configuration | sizes) is None


@pytest.mark.parametrize(
    ("plans", "configuration", "expected"),
    [
        # names below an allowed package that reach something else
        ({}, _configuration(architecture=_architecture("torch.nn.modules.module.os.system")), "os.system"),
        ({}, _configuration(architecture=_architecture(f"{_NETWORK}.__init__")), "__init__"),
        (
            {},
            _configuration(
                architecture=_architecture("dynamic_network_architectures.architectures.unet.torch.hub.load")
            ),
            "torch.hub.load",
        ),
        (
            {},
            _configuration(architecture=_architecture(conv_op="torch.nn.modules.conv.torch.hub.load")),
            "hub",
        ),
        ({}, _configuration(architecture=_architecture(nonlin="torch.nn.Sequential")), "torch.nn.Sequential"),
        ({}, _configuration(architecture=_architecture(norm_op=["torch.nn.InstanceNorm3d"])), "InstanceNorm"),
        # names that nnU-Net looks up among everything that its own modules have imported
        ({"label_manager": "recursive_find_python_class"}, _configuration(), "label manager recursive"),
        ({}, _configuration(preprocessor_name="shutil"), "preprocessor shutil"),
        ({}, _configuration(normalization_schemes=["join"]), "normalisation join"),
        ({}, _configuration(normalization_schemes="CTNormalization"), "no list of normalisations"),
        ({}, _configuration(resampling_fn_seg="subfiles"), "resampling function subfiles"),
        ({}, {"UNet_class_name": "os.system"}, "class os.system"),
        # arguments
        (
            {},
            _configuration(resampling_fn_data_kwargs={"order": "3"}),
            "wrong type for the argument order",
        ),
        ({}, _configuration(resampling_fn_data_kwargs={"data": 1}), "unknown argument data"),
        ({}, _configuration(architecture=_architecture(initialize="os.system")), "argument initialize"),
        ({}, _configuration(architecture=_architecture(n_stages="2")), "n_stages"),
        ({}, _configuration(architecture=_architecture(features_per_stage=[10**9])), "features_per_stage"),
        ({}, _configuration(architecture=_architecture(conv_bias={"a": 1})), "conv_bias"),
        ({}, _configuration(architecture=_architecture(nonlin_kwargs={"inplace": "os.system"})), "inplace"),
        (
            {},
            _configuration(architecture=_architecture() | {"_kw_requires_import": ["n_stages"]}),
            "import the argument n_stages",
        ),
        ({}, _configuration(architecture="PlainConvUNet"), "describe no network"),
        ({}, _configuration(architecture={}), "class None"),
        ({}, _configuration(architecture=_architecture(kernel_sizes=[[999] * 3] * 2)), "kernel_sizes"),
        # axes, sizes and intensities
        ({"transpose_forward": [0, 0, 0]}, _configuration(), "transpose_forward"),
        ({"transpose_forward": "012"}, _configuration(), "transpose_forward"),
        ({"transpose_backward": [0, 1, 3]}, _configuration(), "transpose_backward"),
        ({}, _configuration(patch_size=[-8, 8, 8]), "patch_size"),
        ({}, _configuration(patch_size="abc"), "patch_size"),
        ({}, _configuration(patch_size=[10**6] * 3), "patch_size"),
        ({}, _configuration(spacing=[0, 1, 1]), "spacing"),
        ({}, _configuration(spacing=[float("nan"), 1, 1]), "spacing"),
        ({"foreground_intensity_properties_per_channel": {"0": {"mean": "x"}}}, _configuration(), "intens"),
        ({"foreground_intensity_properties_per_channel": {"0": 5}}, _configuration(), "intensities"),
        ({"foreground_intensity_properties_per_channel": [1]}, _configuration(), "intensities"),
    ],
)
def test_any_other_name_or_argument_is_refused(
    plans: dict[str, Any], configuration: dict[str, Any], expected: str
) -> None:
    problem = plan_problem(plans, configuration)
    assert problem is not None
    assert expected in problem


def test_the_shipped_bundle_is_accepted() -> None:
    files = sorted(shipped_bundles().glob("*/parts/*/plans.json"))
    assert files
    for file in files:
        plans = json.loads(file.read_text(encoding="utf-8"))
        assert all(plan_problem(plans, one) is None for one in plans["configurations"].values())
