"""Axes, sizes and intensities in nnU-Net's plans: each must be possible, and an import needs them all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

_LARGEST_PATCH: Final = 2048
_SPACING_MM: Final = (0.01, 1000.0)
_AXES: Final = 3
_CT: Final = "CTNormalization"
_STATISTICS: Final = ("mean", "std", "percentile_00_5", "percentile_99_5")
_TRANSPOSES: Final = ("transpose_forward", "transpose_backward")
_NEEDED: Final = (
    "patch_size",
    "spacing",
    "preprocessor_name",
    "normalization_schemes",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_probabilities",
    "resampling_fn_probabilities_kwargs",
)


def value_problem(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> str | None:
    """Why axes, sizes or intensities cannot be those of a network; None where plans leave them out.

    Parameters
    ----------
    plans : content of ``plans.json``
    configuration : one configuration of it, with what it inherits
    """
    return _axes_problem(plans) or _size_problem(configuration) or _intensity_problem(plans, configuration)


def missing_problem(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> str | None:
    """What a configuration with three axes lacks so that it cannot be run; None if it has all.

    Parameters
    ----------
    plans, configuration : see `value_problem`, which found nothing
    """
    missing = [key for key in _NEEDED if configuration.get(key) is None]
    missing += [key for key in _TRANSPOSES if plans.get(key) is None]
    if missing:
        return f"Its plans lack {', '.join(missing)}."
    if len(configuration["spacing"]) != _AXES or any(len(plans[key]) != _AXES for key in _TRANSPOSES):
        return "Its plans do not have three numbers for spacing and axes, but a patch of three."
    if _CT not in configuration["normalization_schemes"]:
        return None
    first = (_channels(plans) or {}).get("0", {})
    absent = [name for name in _STATISTICS if name not in first]
    return f"Its plans lack the intensities of the training: {', '.join(absent)}." if absent else None


def _axes_problem(plans: Mapping[str, Any]) -> str | None:
    for key in _TRANSPOSES:
        axes = plans.get(key)
        if axes is not None and not (are_numbers(axes) and sorted(axes) == list(range(len(axes)))):
            return f"{key} in its plans does not put axes into another order."
    forward, backward = (plans.get(key) for key in _TRANSPOSES)
    if forward is None or backward is None:
        return None
    if [int(forward[int(axis)]) for axis in backward if int(axis) < len(forward)] != list(
        range(len(forward))
    ):
        return "transpose_backward in its plans does not undo transpose_forward."
    return None


def _size_problem(configuration: Mapping[str, Any]) -> str | None:
    patch = configuration.get("patch_size")
    if patch is not None and not (are_numbers(patch) and all(1 <= side <= _LARGEST_PATCH for side in patch)):
        return "patch_size in its plans is no size."
    spacing = configuration.get("spacing")
    least, most = _SPACING_MM
    if spacing is not None and not (are_numbers(spacing) and all(least <= mm <= most for mm in spacing)):
        return "spacing in its plans is no distance in mm."
    return None if patch is None else _patch_problem(patch, _strides(configuration))


def _patch_problem(patch: Sequence[float], strides: Any) -> str | None:
    """Why a patch cannot pass through the network: on the way up its halves must meet again."""
    if not isinstance(strides, list | tuple) or not all(
        are_numbers(step) and len(step) == len(patch) for step in strides
    ):
        return None
    total = [math.prod(step[axis] for step in strides) for axis in range(len(patch))]
    if any(one < 1 or side % one for side, one in zip(patch, total, strict=True)):
        return f"patch_size {list(patch)} in its plans is no multiple of the strides of the network, {total}."
    return None


def _strides(configuration: Mapping[str, Any]) -> Any:
    architecture = configuration.get("architecture")
    if architecture is None:
        return configuration.get("pool_op_kernel_sizes")
    arguments = architecture.get("arch_kwargs") if isinstance(architecture, Mapping) else None
    return arguments.get("strides") if isinstance(arguments, Mapping) else None


def _intensity_problem(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> str | None:
    channels = _channels(plans)
    if channels is None or _CT not in (configuration.get("normalization_schemes") or ()):
        return None  # only this one uses them
    known = isinstance(channels, Mapping) and all(isinstance(one, Mapping) for one in channels.values())
    if not known or not all(are_numbers(list(one.values())) for one in channels.values()):
        return "The intensities in its plans are no numbers."
    for one in channels.values():
        low, high = one.get("percentile_00_5", -math.inf), one.get("percentile_99_5", math.inf)
        if low >= high or one.get("std", 1) <= 0:
            return "The intensities in its plans have no spread; they are not those of CTs."
    return None


def _channels(plans: Mapping[str, Any]) -> Any:
    """The intensities by channel; nnU-Net's first versions called channels modalities."""
    return plans.get(
        "foreground_intensity_properties_per_channel",
        plans.get("foreground_intensity_properties_by_modality"),
    )


def are_numbers(values: Any) -> bool:
    """Whether it is a list of finite numbers."""
    return isinstance(values, Sequence) and all(
        type(one) in {int, float} and math.isfinite(one) for one in values
    )
