"""NIfTI images as volumes in the node's frame (LPS), and back."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import AIR_HU, HuArray, Volume
from orgseg_node.durable import atomic_file, require_space
from orgseg_node.errors import InputError, StorageError

_HEADER: Final = 348  # bytes of a NIfTI-1 header
_BLOCK: Final = 1 << 20
_MIN_FREE_MB: Final = 1  # with less, a failed write means that the disk is full


def read_volume(path: Path) -> Volume:
    """A CT from NIfTI, reoriented so that k, j, i increase with z, y, x in LPS.

    Raises
    ------
    InputError
        If the file cannot be read or is not three-dimensional.
    """
    array, grid = _read_image(path)
    hu = np.clip(np.rint(array), AIR_HU - 24, np.iinfo(np.int16).max).astype(np.int16)
    return Volume(grid=grid, hu=hu)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """(K, J, I) label numbers on the same axes as `read_volume`. Raises InputError if it cannot be read."""
    array, _ = _read_image(path)
    return array.astype(np.uint8)


def read_label_image(path: Path) -> tuple[NDArray[np.uint8], Grid]:
    """(K, J, I) label numbers and their grid, on the axes of `read_volume`.

    Raises
    ------
    InputError
        If the file cannot be read, is not three-dimensional, or a value is no label number.
    """
    array, grid = _read_image(path)
    labels = array.astype(np.uint8)
    if not np.array_equal(labels, array):
        raise InputError(f"{path.name} has values that are no label numbers from 0 to 255.")
    return labels, grid


def write_image(path: Path, array: HuArray | NDArray[np.uint8], grid: Grid) -> None:
    """Write an image as NIfTI, complete or not at all.

    Parameters
    ----------
    path : ending in ``.nii`` or ``.nii.gz``; missing parent folders are made
    array : (K, J, I) HU or label numbers
    grid : axis-aligned, of the same shape

    Raises
    ------
    DiskFull, StorageError
        If it cannot be written.
    """
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing([float(s) for s in reversed(grid.spacing_mm)])
    image.SetOrigin([float(o) for o in grid.origin_mm])
    with atomic_file(path) as part:
        try:
            SimpleITK.WriteImage(image, str(part), useCompression=True)
        except RuntimeError as error:  # SimpleITK gives no reason
            require_space(path.parent, _MIN_FREE_MB)
            raise StorageError(f"{path.name} could not be written.") from error


def _read_image(path: Path) -> tuple[NDArray[np.float64] | NDArray[np.int16], Grid]:
    _require_complete(path)
    try:
        return _read(path)
    except RuntimeError as error:
        raise InputError(f"{path.name} cannot be read as NIfTI.") from error
    except ValueError as error:
        raise InputError(f"{path.name} is no three-dimensional image on a regular grid.") from error


def _require_complete(path: Path) -> None:
    """Refuse a truncated file: ITK silently reads zeros for the missing part of a compressed one.

    Raises
    ------
    InputError
        If the file is damaged, or shorter than its header says (NIfTI-1: dim, bitpix, vox_offset).
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        return
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            header = stream.read(_HEADER)
            length = len(header)
            while block := stream.read(_BLOCK):  # to the end, where the checksum of gzip is
                length += len(block)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path.name} is damaged or truncated.") from error
    if len(header) < _HEADER or length < _expected_bytes(header):
        raise InputError(f"{path.name} is truncated.")


def _expected_bytes(header: bytes) -> int:
    order = "<" if header[:4] == _HEADER.to_bytes(4, "little") else ">"
    dim = struct.unpack_from(f"{order}8h", header, 40)
    (bits,) = struct.unpack_from(f"{order}h", header, 72)
    (offset,) = struct.unpack_from(f"{order}f", header, 108)
    voxels = math.prod(max(1, int(n)) for n in dim[1 : 1 + min(max(dim[0], 0), 7)])
    return int(offset) + voxels * int(bits) // 8


def _read(path: Path) -> tuple[NDArray[np.float64] | NDArray[np.int16], Grid]:
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    array = SimpleITK.GetArrayFromImage(image)
    x, y, z = image.GetOrigin()
    dx, dy, dz = image.GetSpacing()
    return array, Grid(shape=array.shape, spacing_mm=(dz, dy, dx), origin_mm=(x, y, z))
