"""The demonstration patient that comes with the node: a CT and its clinical contours."""

from __future__ import annotations

import tomllib
from pathlib import Path

import nibabel
import numpy as np

from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Mask
from orgseg_node.errors import EnvironmentFault, MixedGeometry
from orgseg_node.shipped import shipped_demo


def demo_ct() -> Path:
    """The folder of the demonstration CT.

    Raises
    ------
    EnvironmentFault
        If the installation does not contain it.
    """
    folder = shipped_demo() / "ct"
    if not any(folder.glob("*.dcm")):
        raise EnvironmentFault("The demonstration CT is not part of this installation.")
    return folder


def clinical_masks(grid: Grid) -> dict[str, Mask]:
    """The clinical contours as masks, by organ key.

    Parameters
    ----------
    grid : grid of the demonstration CT as it was read

    Returns
    -------
    (K, J, I) bool for each organ key

    Raises
    ------
    MixedGeometry
        If the contours are not on this grid.
    """
    image = nibabel.Nifti1Image.from_filename(shipped_demo() / "reference_labels.nii.gz")
    labels = np.asarray(image.dataobj).transpose(2, 1, 0)
    if labels.shape != grid.shape or not np.allclose(image.affine, grid.ras_affine, atol=1e-2):
        raise MixedGeometry("The clinical contours and the CT of the demonstration have different grids.")
    names = tomllib.loads((shipped_demo() / "reference_labels.toml").read_text(encoding="utf-8"))["labels"]
    return {key: np.equal(labels, int(number)) for number, key in names.items()}
