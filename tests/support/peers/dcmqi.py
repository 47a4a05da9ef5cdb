"""dcmqi, which reads Segmentations for 3D Slicer, as an independent reader."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Mask


def dcmqi_masks(seg: Path, grid: Grid, scratch: Path) -> dict[str, Mask]:
    """What dcmqi reads from a Segmentation of either kind: masks by segment label, each (K, J, I) on a grid.

    Parameters
    ----------
    seg : the file
    grid : the CT's; dcmqi's own pictures hold only the slices that the file has frames for
    scratch : folder for its pictures
    """
    found = importlib.util.find_spec("dcmqi")
    if found is None or found.origin is None:
        pytest.skip("dcmqi is not installed")
    scratch.mkdir(parents=True)
    program = Path(found.origin).parent / "bin" / "segimage2itkimage"
    command = [str(program), "--inputDICOM", str(seg), "--outputDirectory", str(scratch), "-t", "nrrd"]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    described = json.loads((scratch / "meta.json").read_text(encoding="utf-8"))["segmentAttributes"]
    masks: dict[str, Mask] = {}
    for number, segments in enumerate(described, start=1):
        image = SimpleITK.ReadImage(str(scratch / f"{number}.nrrd"))
        values = _on_grid(image, grid)
        for segment in segments:
            masks[segment["SegmentLabel"]] = values == segment["labelID"]
    return masks


def _on_grid(image: SimpleITK.Image, grid: Grid) -> np.ndarray:
    """The picture's voxels put where they lie in the patient; each must hit a voxel of the grid."""
    values = SimpleITK.GetArrayFromImage(image)
    indices = np.argwhere(values > 0)
    steps = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    points = np.array(image.GetOrigin()) + indices[:, ::-1] @ steps.T
    places = grid.to_index(points)
    assert np.abs(places - np.rint(places)).max() < 0.01, "dcmqi's voxels lie between ours"
    whole = np.zeros(grid.shape, dtype=values.dtype)
    whole[tuple(np.rint(places).astype(int).T)] = values[tuple(indices.T)]
    return whole
