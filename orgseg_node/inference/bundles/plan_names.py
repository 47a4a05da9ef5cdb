"""The classes and functions that plans may name, each by its exact name, and the types of their values.

nnU-Net imports what ``plans.json`` names, so a model from outside could otherwise run any code that is
installed. Plans are checked when a model is imported and each time a network is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orgseg_node.inference.bundles.nnunet.plan_values import value_problem

_UNETS: Final = "dynamic_network_architectures.architectures"
_NETWORKS: Final = frozenset(
    (
        f"{_UNETS}.unet.PlainConvUNet",
        f"{_UNETS}.unet.ResidualEncoderUNet",
        f"{_UNETS}.unet.ResidualUNet",
        f"{_UNETS}.residual_unet.ResidualEncoderUNet",  # as nnU-Net 2.4 wrote it
    )
)


def _layers(module: str, *names: str) -> frozenset[str]:
    """The two names of each class of torch: as it is written in code, and where it is defined."""
    return frozenset(f"torch.nn.{place}{name}" for name in names for place in ("", f"modules.{module}."))


_LAYERS: Final[Mapping[str, frozenset[str]]] = {
    "conv_op": _layers("conv", "Conv2d", "Conv3d"),
    "norm_op": _layers("instancenorm", "InstanceNorm2d", "InstanceNorm3d")
    | _layers("batchnorm", "BatchNorm2d", "BatchNorm3d"),
    "dropout_op": _layers("dropout", "Dropout", "Dropout2d", "Dropout3d"),
    "nonlin": _layers("activation", "LeakyReLU", "ReLU", "ELU", "GELU", "SiLU", "Mish", "PReLU", "SELU"),
}
_SIZES: Final = frozenset(
    (
        "n_stages",
        "features_per_stage",
        "kernel_sizes",
        "strides",
        "n_conv_per_stage",
        "n_blocks_per_stage",
        "n_conv_per_stage_decoder",
        "bottleneck_channels",
        "stem_channels",
    )
)
_LARGEST_SIZE: Final = 8192
_LARGEST: Final = {"n_stages": 16, "kernel_sizes": 31, "strides": 31}
_FLAGS: Final = frozenset(("conv_bias", "deep_supervision", "nonlin_first"))
_LAYER_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "norm_op_kwargs": frozenset(("eps", "momentum", "affine", "track_running_stats")),
    "dropout_op_kwargs": frozenset(("p", "inplace")),
    "nonlin_kwargs": frozenset(("inplace", "negative_slope", "alpha", "num_parameters", "init")),
}

_RESAMPLINGS: Final[Mapping[str, frozenset[str]]] = {
    "resample_data_or_seg_to_shape": frozenset(
        ("is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold")
    ),
    "resample_torch_simple": frozenset(("is_seg", "num_threads", "memefficient_seg_resampling", "mode")),
    "resample_torch_fornnunet": frozenset(
        (
            "is_seg",
            "num_threads",
            "memefficient_seg_resampling",
            "force_separate_z",
            "separate_z_anisotropy_threshold",
            "mode",
            "aniso_axis_mode",
        )
    ),
    "no_resampling_hack": frozenset(("is_seg",)),
}
_MODES: Final = frozenset(("linear", "bilinear", "trilinear", "nearest", "nearest-exact"))
_PREPROCESSORS: Final = frozenset(("DefaultPreprocessor",))
_NORMALISATIONS: Final = frozenset(
    (
        "CTNormalization",
        "ZScoreNormalization",
        "NoNormalization",
        "RescaleTo01Normalization",
        "RGBTo01Normalization",
    )
)
_LABEL_MANAGERS: Final = frozenset(("LabelManager",))
_OLD_NETWORKS: Final = frozenset(("PlainConvUNet", "ResidualEncoderUNet"))


def plan_problem(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> str | None:
    """Why nnU-Net must not be given these plans; None if every name and argument in them is known.

    Parameters
    ----------
    plans : content of ``plans.json``
    configuration : one configuration of it, with what it inherits
    """
    named: list[tuple[str, Any, frozenset[str]]] = [
        ("label manager", plans.get("label_manager"), _LABEL_MANAGERS),
        ("preprocessor", configuration.get("preprocessor_name"), _PREPROCESSORS),
        ("class", configuration.get("UNet_class_name"), _OLD_NETWORKS),
    ]
    schemes = configuration.get("normalization_schemes") or ()
    if not isinstance(schemes, list | tuple):
        return "Its plans have no list of normalisations."
    named += [("normalisation", scheme, _NORMALISATIONS) for scheme in schemes]
    for kind, name, known in named:
        if name is not None and not _among(name, known):
            return _unknown(kind, name)
    return (
        _resampling_problem(configuration)
        or _architecture_problem(configuration.get("architecture"))
        or value_problem(plans, configuration)
    )


def _resampling_problem(configuration: Mapping[str, Any]) -> str | None:
    for what in ("data", "seg", "probabilities"):
        name = configuration.get(f"resampling_fn_{what}")
        if name is None:
            continue
        if not _among(name, frozenset(_RESAMPLINGS)):
            return _unknown("resampling function", name)
        options = configuration.get(f"resampling_fn_{what}_kwargs") or {}
        problem = _options_problem(f"resampling_fn_{what}_kwargs", options, _RESAMPLINGS[name])
        if problem is not None:
            return problem
    return None


def _architecture_problem(architecture: Any) -> str | None:
    if architecture is None:  # plans from before nnU-Net 2.4: nnU-Net makes them itself, of its own networks
        return None
    if not isinstance(architecture, Mapping):
        return "Its plans describe no network."
    name = architecture.get("network_class_name")
    if not _among(name, _NETWORKS):
        return _unknown("class", name)
    arguments = architecture.get("arch_kwargs") or {}
    imported = architecture.get("_kw_requires_import") or ()
    if not isinstance(arguments, Mapping) or not isinstance(imported, list | tuple):
        return "Its plans do not list the arguments of the network."
    wrong = next((key for key in imported if not _among(key, frozenset(_LAYERS))), None)
    if wrong is not None:
        return f"Its plans import the argument {_short(wrong)}, which nnU-Net's networks do not have."
    return next(filter(None, (_argument_problem(key, value) for key, value in arguments.items())), None)


def _argument_problem(key: str, value: Any) -> str | None:
    if key in _LAYERS:
        return None if value is None or _among(value, _LAYERS[key]) else _unknown("class", value)
    if key in _LAYER_OPTIONS:
        return None if value is None else _options_problem(key, value, _LAYER_OPTIONS[key])
    if key in _FLAGS:
        good = isinstance(value, bool)
    elif key in _SIZES:
        good = value is None or _is_size(value, _LARGEST.get(key, _LARGEST_SIZE))
    else:
        return f"Its plans give the network the argument {_short(key)}, which nnU-Net's networks do not have."
    return None if good else f"Its plans have a wrong type or size for the argument {key} of the network."


def _options_problem(where: str, options: Any, known: frozenset[str]) -> str | None:
    """Options are numbers, true, false or null; only modes are text."""
    if not isinstance(options, Mapping):
        return f"{where} in its plans is not a table."
    for key, value in options.items():
        if key not in known:
            return f"{where} in its plans has the unknown argument {_short(key)}."
        is_mode = key.endswith("mode")
        if not (_among(value, _MODES) if is_mode else isinstance(value, bool | int | float | None)):
            return f"{where} in its plans has a wrong type for the argument {key}."
    return None


def _is_size(value: Any, largest: int, depth: int = 0) -> bool:
    """Whether it is a whole number, or a list of them (stages), or a list of lists (stages and axes).

    Parameters
    ----------
    value : from the plans
    largest : the largest number
    depth : in how many lists it is
    """
    if isinstance(value, list | tuple):
        return depth < 2 and len(value) <= 64 and all(_is_size(one, largest, depth + 1) for one in value)
    return type(value) is int and 0 <= value <= largest


def _among(name: Any, known: frozenset[str]) -> bool:
    return isinstance(name, str) and name in known


def _unknown(kind: str, name: Any) -> str:
    return f"Its plans name the {kind} {_short(name)}, which is not part of nnU-Net."


def _short(name: Any) -> str:
    return str(name)[:120]
