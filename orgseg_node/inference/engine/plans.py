"""The parts of nnU-Net's plans that the streaming engine needs; what it cannot run is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from orgseg_node.core.geometry import Shape, Vector
from orgseg_node.errors import InferenceFailed, NotStreamable
from orgseg_node.inference.engine.resampling import Resampling
from orgseg_node.inference.engine.working import HuNormalisation, Regrid

_ONLY_FOR_LABELS: Final = "memefficient_seg_resampling"
_MODES: Final = {"mode": "linear", "aniso_axis_mode": "nearest-exact"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessingPlan:
    """How a CT is preprocessed for a network. Networks with equal plans share one working volume.

    Attributes
    ----------
    transpose : for each axis of the network, the axis of the CT
    spacing_mm : of the working grid, axes of the network
    normalisation : how Hounsfield units are normalised
    force_separate_z : nnU-Net's option of this name for images; None to decide by the spacing
    resampling : by which function images are resampled
    """

    transpose: Shape
    spacing_mm: Vector
    normalisation: HuNormalisation
    force_separate_z: bool | None
    resampling: Resampling = Resampling.SPLINE

    def regrid(self, shape: Shape, spacing_mm: Vector) -> Regrid:
        """The resampling from the CT to the working grid.

        Parameters
        ----------
        shape, spacing_mm : of the CT after transposing and cropping, axes of the network

        Raises
        ------
        InferenceFailed
            If the CT is so thin that the working grid would have no voxel; nnU-Net fails here as well.
        """
        target = new_shape(shape, spacing_mm, self.spacing_mm)
        if not min(target):
            raise InferenceFailed("The CT is thinner than half a voxel of the network.")
        thick = thick_axis(self.force_separate_z, spacing_mm, self.spacing_mm)
        return Regrid(source=shape, target=target, thick_axis=thick, method=self.resampling)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """The input and output of one network, as its nnU-Net plans describe them.

    Attributes
    ----------
    preprocessing : how the CT is preprocessed
    patch : shape of a tile in voxels
    force_separate_z : nnU-Net's option of this name for logits; None to decide by the spacing
    heads : number of output channels
    regions : the label of each channel, for region-based networks; later channels overwrite earlier ones.
        None for networks whose channels exclude each other: the label is the channel of the largest logit
    downsampling : total downsampling factor of the encoder along each axis
    resampling : by which function logits are resampled
    """

    preprocessing: PreprocessingPlan
    patch: Shape
    force_separate_z: bool | None
    heads: int
    regions: tuple[int, ...] | None
    downsampling: Shape
    resampling: Resampling = Resampling.SPLINE

    @property
    def smallest_tile(self) -> Shape:
        """Shape of the smallest tile that the network can compute: two voxels at the lowest resolution.

        Instance normalisation of a single voxel is not defined.
        """
        tile = list(self.downsampling)
        longest = max(range(3), key=lambda axis: self.patch[axis] // self.downsampling[axis])
        tile[longest] *= 2
        return _three(min(n, p) for n, p in zip(tile, self.patch, strict=True))

    def regrid(self, working: Shape, shape: Shape, spacing_mm: Vector) -> Regrid:
        """The resampling from the working grid to the CT.

        Parameters
        ----------
        working : shape of the working grid
        shape, spacing_mm : of the CT after transposing and cropping, axes of the network
        """
        thick = thick_axis(self.force_separate_z, self.preprocessing.spacing_mm, spacing_mm)
        return Regrid(source=working, target=shape, thick_axis=thick, method=self.resampling)


def read_network_plan(
    plans: PlansManager, configuration: ConfigurationManager, dataset: Mapping[str, Any]
) -> NetworkPlan:
    """The plan of one nnU-Net configuration.

    Parameters
    ----------
    plans : content of ``plans.json``
    configuration : one configuration of it, such as ``3d_fullres``
    dataset : content of ``dataset.json``

    Raises
    ------
    NotStreamable
        If it is two-dimensional or the second stage of a cascade, or if the engine does not support its
        preprocessor, resampling or normalisation.
    """
    if len(configuration.patch_size) != 3:
        raise NotStreamable("It is a 2d configuration.")
    if configuration.previous_stage_name is not None:
        raise NotStreamable("It is the second stage of a cascade.")
    if configuration.preprocessor_name != "DefaultPreprocessor":
        raise NotStreamable(f"It is preprocessed by {configuration.preprocessor_name}.")
    if list(configuration.normalization_schemes) != ["CTNormalization"]:
        raise NotStreamable(f"It normalises by {', '.join(configuration.normalization_schemes)}.")
    statistics = plans.foreground_intensity_properties_per_channel.get("0")
    if not statistics:
        raise NotStreamable("Its plans hold no statistics of the intensities.")
    labels = plans.get_label_manager(dict(dataset))
    image_method, image_force = _resampling(configuration, "data", order=3)
    method, force = _resampling(configuration, "probabilities", order=1)
    return NetworkPlan(
        preprocessing=PreprocessingPlan(
            transpose=_three(int(axis) for axis in plans.transpose_forward),
            spacing_mm=_three(float(s) for s in configuration.spacing),
            normalisation=HuNormalisation(
                low=statistics["percentile_00_5"],
                high=statistics["percentile_99_5"],
                mean=statistics["mean"],
                std=statistics["std"],
            ),
            force_separate_z=image_force,
            resampling=image_method,
        ),
        patch=_three(int(n) for n in configuration.patch_size),
        force_separate_z=force,
        resampling=method,
        heads=labels.num_segmentation_heads,
        regions=tuple(int(n) for n in labels.regions_class_order) if labels.has_regions else None,
        downsampling=_three(int(n) for n in np.prod(configuration.pool_op_kernel_sizes, axis=0)),
    )


def _resampling(configuration: ConfigurationManager, what: str, order: int) -> tuple[Resampling, bool | None]:
    """The function, and its option ``force_separate_z``; the other options must be nnU-Net's own.

    Raises
    ------
    NotStreamable
        If the engine does not have the function, or not with these options.
    """
    function = configuration.configuration[f"resampling_fn_{what}"]
    options = dict(configuration.configuration[f"resampling_fn_{what}_kwargs"])
    force = options.pop("force_separate_z", None)
    if function == Resampling.TORCH:
        options = {**_MODES, "is_seg": False, **options}
        for without_effect in (_ONLY_FOR_LABELS, "num_threads"):
            options.pop(without_effect, None)
        default: dict[str, Any] = {**_MODES, "is_seg": False}
    else:
        default = {"is_seg": False, "order": order, "order_z": 0}
    if function not in tuple(Resampling) or options != default:
        raise NotStreamable(f"It resamples by {function} with {options}.")
    return Resampling(function), None if force is None else bool(force)


def new_shape(shape: Shape, current_mm: Vector, new_mm: Vector) -> Shape:
    """The number of voxels of a grid at another spacing (nnU-Net's ``compute_new_shape``).

    Parameters
    ----------
    shape : number of voxels along each axis
    current_mm, new_mm : spacing before and after
    """
    # the order of the operations matters: another one would round halves differently
    return _three(round(a / b * n) for a, b, n in zip(current_mm, new_mm, shape, strict=True))


def thick_axis(force: bool | None, current_mm: Vector, new_mm: Vector) -> int | None:  # noqa: FBT001  # nnU-Net's tristate
    """The axis of thick slices, along which nothing is interpolated (``determine_do_sep_z_and_axis``).

    Parameters
    ----------
    force : nnU-Net's ``force_separate_z``; None to decide by the spacings
    current_mm, new_mm : spacing before and after the resampling

    Returns
    -------
    None if no spacing is more than three times another one, or if several axes have the largest spacing
    """
    if force is None:
        wide = next((mm for mm in (current_mm, new_mm) if max(mm) / min(mm) > ANISO_THRESHOLD), None)
    else:
        wide = current_mm if force else None
    if wide is None:
        return None
    axes = [axis for axis, mm in enumerate(wide) if max(wide) / mm == 1]
    return axes[0] if len(axes) == 1 else None


def _three(values: Any) -> tuple[Any, Any, Any]:
    a, b, c = values
    return a, b, c
