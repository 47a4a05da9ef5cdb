"""The NIfTI of the label map has the geometry of the grid, for every order of the stored slices."""

from __future__ import annotations

import gzip
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from orgseg_node.contouring.label_export import label_nifti
from orgseg_node.core.organs import OrganTable
from tests.support.ct.phantom import (
    AXIAL,
    CORONAL,
    FEET_FIRST,
    PRONE,
    SAGITTAL,
    PhantomOptions,
    grid_of,
    label_map_of,
)

SMALL = PhantomOptions(slices=20, rows=24, columns=28, pixel_spacing_mm=(9.0, 9.0), slice_spacing_mm=9.0)


@pytest.mark.parametrize("orientation", [AXIAL, FEET_FIRST, PRONE, CORONAL, SAGITTAL])
def test_every_voxel_has_the_same_position_in_the_nifti_and_on_the_grid(
    orientation: tuple[float, float, float, float, float, float], organ_table: OrganTable
) -> None:
    grid = grid_of(replace(SMALL, orientation=orientation))
    label_map = label_map_of(grid, organ_table)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(label_nifti(label_map)))
    for k, j, i in np.argwhere(label_map.labels)[::50]:
        assert int(image.dataobj[i, j, k]) == label_map.labels[k, j, i]
        ras = image.affine @ [i, j, k, 1.0]
        x, y, z = grid.to_lps([[k, j, i]])[0]
        assert np.allclose(ras[:3], [-x, -y, z], atol=1e-3)
