"""The maker of the demonstration CT puts every voxel where the NIfTI says it is."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.errors import MixedGeometry
from tools.demo_ct import make_demo_ct

SHAPE = (12, 14, 10)  # i, j, k


def write(path: Path, values: NDArray[np.int16], affine: NDArray[np.float64]) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@pytest.fixture
def values() -> NDArray[np.int16]:
    """HU that differ from voxel to voxel, and compress."""
    return (np.arange(np.prod(SHAPE)).reshape(SHAPE) - 1000).astype(np.int16)


AFFINES = {
    "lps": np.array([[-4.0, 0, 0, 10], [0, -4.0, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]]),
    "ras": np.array([[4.0, 0, 0, -10], [0, 4.0, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]]),
    "permuted": np.array([[0, 0, 4.0, 1], [4.0, 0, 0, 2], [0, -2.5, 0, 3], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("name", AFFINES)
def test_every_voxel_is_where_it_was(tmp_path: Path, values: NDArray[np.int16], name: str) -> None:
    affine = AFFINES[name]
    labels = (values > 300).astype(np.int16)
    image = write(tmp_path / "X_0000.nii.gz", values, affine)
    make_demo_ct(image, write(tmp_path / "labels.nii.gz", labels, affine), tmp_path / "demo")
    volume = read_volume(read_series(tmp_path / "demo" / "ct"))
    reference = nibabel.Nifti1Image.from_filename(tmp_path / "demo" / "reference_labels.nii.gz")
    assert np.allclose(reference.affine, volume.grid.ras_affine, atol=1e-3)
    for i, j, k in np.ndindex(*SHAPE):
        x, y, z = (affine @ [i, j, k, 1.0])[:3]
        index = np.rint(volume.grid.to_index([[-x, -y, z]])[0]).astype(int)
        assert volume.hu[tuple(index)] == values[i, j, k]
        assert int(reference.dataobj[tuple(index[::-1])]) == labels[i, j, k]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, values: NDArray[np.int16]) -> None:
    image = write(tmp_path / "X_0000.nii.gz", values, AFFINES["lps"])
    labels = write(tmp_path / "labels.nii.gz", np.zeros_like(values), AFFINES["lps"])
    for target in ("one", "two"):
        make_demo_ct(image, labels, tmp_path / target)
    one, two = (
        {
            path.relative_to(tmp_path / target): path.read_bytes()
            for path in (tmp_path / target).rglob("*.dcm")
        }
        for target in ("one", "two")
    )
    assert one == two
    assert len(one) == SHAPE[2]


def test_an_oblique_image_is_refused(tmp_path: Path, values: NDArray[np.int16]) -> None:
    oblique = AFFINES["lps"].copy()
    oblique[0, 1] = 1.0
    image = write(tmp_path / "X_0000.nii.gz", values, oblique)
    with pytest.raises(MixedGeometry):
        make_demo_ct(image, image, tmp_path / "demo")


def test_image_and_labels_on_different_grids_are_refused(tmp_path: Path, values: NDArray[np.int16]) -> None:
    image = write(tmp_path / "X_0000.nii.gz", values, AFFINES["lps"])
    labels = write(tmp_path / "labels.nii.gz", values, AFFINES["ras"])
    with pytest.raises(MixedGeometry):
        make_demo_ct(image, labels, tmp_path / "demo")
