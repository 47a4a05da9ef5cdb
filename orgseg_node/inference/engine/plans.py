"""What nnU-Net's plans say, as far as the streaming engine needs it; what it cannot do is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from orgseg_node.core.geometry import Shape, Vector
from orgseg_node.errors import InferenceFailed, NotStreamable
from orgseg_node.inference.engine.working import Intensities, Regrid

_USUAL: Final = "resample_data_or_seg_to_shape"
"""nnU-Net's usual resampling. It is known by its name: to import it brings in pandas and scikit-image, which
the engine does without, and 70 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """How a network wants to see a CT. Networks of equal sight share one working volume.

    Attributes
    ----------
    transpose : for each axis of the network, the axis of the CT
    spacing_mm : of the working grid, axes of the network
    intensities : how Hounsfield units are normalised
    thick : nnU-Net's ``force_separate_z`` for images; None to judge by the spacing
    """

    transpose: Shape
    spacing_mm: Vector
    intensities: Intensities
    thick: bool | None

    def regrid(self, shape: Shape, spacing_mm: Vector) -> Regrid:
        """From the CT to the working grid.

        Parameters
        ----------
        shape, spacing_mm : of the CT after transposing and cropping

        Raises
        ------
        InferenceFailed
            If the CT is so thin that not one voxel of the working grid is left, where nnU-Net fails, too.
        """
        target = new_shape(shape, spacing_mm, self.spacing_mm)
        if not min(target):
            raise InferenceFailed("The CT is thinner than half a voxel of the network.")
        thick = thick_axis(self.thick, spacing_mm, self.spacing_mm)
        return Regrid(source=shape, target=target, thick_axis=thick)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How one network wants its input and how its output is to be read.

    Attributes
    ----------
    sight : how it wants to see the CT
    patch : voxels of a tile
    thick : nnU-Net's ``force_separate_z`` for logits; None to judge by the spacing
    heads : number of output channels
    regions : the label that each channel writes, later ones over earlier ones; None where channels exclude
        each other and the largest wins
    coarsening : how many voxels along each axis become one where the network is the coarsest
    """

    sight: Sight
    patch: Shape
    thick: bool | None
    heads: int
    regions: tuple[int, ...] | None
    coarsening: Shape

    @property
    def smallest_tile(self) -> Shape:
        """The smallest tile the network computes: two voxels are left of it where it is the coarsest.

        One voxel is too little to be normalised.
        """
        tile = list(self.coarsening)
        longest = max(range(3), key=lambda axis: self.patch[axis] // self.coarsening[axis])
        tile[longest] *= 2
        return _three(min(n, p) for n, p in zip(tile, self.patch, strict=True))

    def regrid(self, working: Shape, shape: Shape, spacing_mm: Vector) -> Regrid:
        """From the working grid to the CT.

        Parameters
        ----------
        working : shape of the working grid
        shape, spacing_mm : of the CT after transposing and cropping
        """
        thick = thick_axis(self.thick, self.sight.spacing_mm, spacing_mm)
        return Regrid(source=working, target=shape, thick_axis=thick)


def read_rules(plans: PlansManager, configuration: ConfigurationManager, dataset: Mapping[str, Any]) -> Rules:
    """The rules of a configuration.

    Raises
    ------
    NotStreamable
        If it is two-dimensional or the second stage of a cascade, or prepares, resamples or normalises in a
        way that the engine does not know.
    """
    if len(configuration.patch_size) != 3:
        raise NotStreamable("It is a 2d configuration.")
    if configuration.previous_stage_name is not None:
        raise NotStreamable("It is the second stage of a cascade.")
    if configuration.preprocessor_name != "DefaultPreprocessor":
        raise NotStreamable(f"It is prepared by {configuration.preprocessor_name}.")
    if list(configuration.normalization_schemes) != ["CTNormalization"]:
        raise NotStreamable(f"It normalises by {', '.join(configuration.normalization_schemes)}.")
    statistics = plans.foreground_intensity_properties_per_channel.get("0")
    if not statistics:
        raise NotStreamable("Its plans hold no statistics of the intensities.")
    labels = plans.get_label_manager(dict(dataset))
    return Rules(
        sight=Sight(
            transpose=_three(int(axis) for axis in plans.transpose_forward),
            spacing_mm=_three(float(s) for s in configuration.spacing),
            intensities=Intensities(
                low=statistics["percentile_00_5"],
                high=statistics["percentile_99_5"],
                mean=statistics["mean"],
                std=statistics["std"],
            ),
            thick=_separate(configuration, "data", order=3),
        ),
        patch=_three(int(n) for n in configuration.patch_size),
        thick=_separate(configuration, "probabilities", order=1),
        heads=labels.num_segmentation_heads,
        regions=tuple(int(n) for n in labels.regions_class_order) if labels.has_regions else None,
        coarsening=_three(int(n) for n in np.prod(configuration.pool_op_kernel_sizes, axis=0)),
    )


def _separate(configuration: ConfigurationManager, what: str, order: int) -> bool | None:
    """What plans say about thick slices. Raises NotStreamable if it is not nnU-Net's usual resampling."""
    function = configuration.configuration[f"resampling_fn_{what}"]
    options = dict(configuration.configuration[f"resampling_fn_{what}_kwargs"])
    force = options.pop("force_separate_z", None)
    usual = {"is_seg": False, "order": order, "order_z": 0}
    if function != _USUAL or options != usual:
        raise NotStreamable(f"It resamples by {function} with {options}.")
    return None if force is None else bool(force)


def new_shape(shape: Shape, current_mm: Vector, new_mm: Vector) -> Shape:
    """How many voxels a grid has at another spacing (nnU-Net's ``compute_new_shape``)."""
    # in this very order: another one rounds the halves otherwise
    return _three(round(a / b * n) for a, b, n in zip(current_mm, new_mm, shape, strict=True))


def thick_axis(force: bool | None, current_mm: Vector, new_mm: Vector) -> int | None:  # noqa: FBT001  # nnU-Net's tristate
    """The axis of thick slices, along which nothing is interpolated (``determine_do_sep_z_and_axis``).

    None where no spacing is more than three times another one, or where the widest is that of several axes.
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
