"""NIfTI images as volumes in the node's own frame, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import AIR_HU, HuArray, Volume
from orgseg_node.errors import InputError


def read_volume(path: Path) -> Volume:
    """A CT from NIfTI, its axes turned so that k, j, i grow with z, y, x in LPS.

    Raises
    ------
    InputError
        If the file cannot be read or is not three-dimensional.
    """
    array, grid = _read_image(path)
    hu = np.clip(np.rint(array), AIR_HU - 24, np.iinfo(np.int16).max).astype(np.int16)
    return Volume(grid=grid, hu=hu)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """(K, J, I) label numbers on the same axes as `read_volume`."""
    array, _ = _read(path)
    return array.astype(np.uint8)


def read_label_image(path: Path) -> tuple[NDArray[np.uint8], Grid]:
    """(K, J, I) label numbers and where they are, on the axes of `read_volume`.

    Raises
    ------
    InputError
        If the file cannot be read, is not three-dimensional, or a value is no label number.
    """
    array, grid = _read_image(path)
    labels = array.astype(np.uint8)
    if not np.array_equal(labels, array):
        raise InputError(f"{path.name} holds values that are no label numbers from 0 to 255.")
    return labels, grid


def write_image(path: Path, array: HuArray | NDArray[np.uint8], grid: Grid) -> None:
    """Write voxels of an axis-aligned grid as NIfTI."""
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing([float(s) for s in reversed(grid.spacing_mm)])
    image.SetOrigin([float(o) for o in grid.origin_mm])
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def _read_image(path: Path) -> tuple[NDArray[np.float64] | NDArray[np.int16], Grid]:
    try:
        return _read(path)
    except RuntimeError as error:
        raise InputError(f"{path.name} cannot be read as NIfTI.") from error
    except ValueError as error:
        raise InputError(f"{path.name} is no three-dimensional picture on a regular grid.") from error


def _read(path: Path) -> tuple[NDArray[np.float64] | NDArray[np.int16], Grid]:
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    array = SimpleITK.GetArrayFromImage(image)
    x, y, z = image.GetOrigin()
    dx, dy, dz = image.GetSpacing()
    return array, Grid(shape=array.shape, spacing_mm=(dz, dy, dx), origin_mm=(x, y, z))
