"""The comparison with TotalSegmentator: its package is called rightly, and results are compared rightly."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest

from benchmarks.rivals import __main__ as rivals
from benchmarks.rivals import totalsegmentator
from benchmarks.rivals.comparison import compare
from orgseg_node.core.geometry import Grid

STUB = '''
"""Stands in for the package: every voxel above 0 HU is class 5; what it was asked is written beside."""
import json, os, pathlib
import nibabel, numpy

def totalsegmentator(input, output=None, **options):
    image = nibabel.load(input)
    home, weights = pathlib.Path(os.environ["TOTALSEG_HOME_DIR"]), os.environ["TOTALSEG_WEIGHTS_PATH"]
    settings = json.loads((home / "config.json").read_text())
    asked = {"options": options, "output": output, "weights": weights, "settings": settings}
    (home / "asked.json").write_text(json.dumps(asked))
    found = (numpy.asarray(image.dataobj) > 0) * 5
    return nibabel.Nifti1Image(found.astype(numpy.uint8), image.affine)
'''


def write_ct(folder: Path) -> tuple[Path, np.ndarray[Any, Any]]:
    """A CT whose voxels above 0 HU are a corner that no turn of it leaves where it is."""
    hu = np.full((4, 5, 6), -500, dtype=np.int16)
    hu[3, 4, :2] = 100
    grid = Grid(shape=(4, 5, 6), spacing_mm=(3.0, 2.0, 1.0), origin_mm=(7.0, -8.0, 9.0))
    path = folder / "ct.nii"
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), grid.ras_affine), path)
    return path, hu


@pytest.mark.parametrize("task", ["total", "total_fast"])
def test_the_package_is_called_where_it_is_installed(
    task: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = tmp_path / "site" / "totalsegmentator"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "python_api.py").write_text(STUB)
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in ("TOTALSEG_HOME_DIR", "TOTALSEG_WEIGHTS_PATH"):
        monkeypatch.setenv(name, "elsewhere")
    path, hu = write_ct(tmp_path)
    names = {name: str(tmp_path / f"{name}.out") for name in ("labels", "facts", "home")}
    names |= {"labels": str(tmp_path / "labels.npy")}
    request = {"ct": str(path), "task": task, "device": "cpu", "replica": False, "weights": "W", **names}
    totalsegmentator.main(request)
    for name in [name for name in sys.modules if name.startswith("totalsegmentator")]:
        monkeypatch.delitem(sys.modules, name)
    asked = json.loads((tmp_path / "home.out" / "asked.json").read_text())
    assert asked["options"] == {
        "ml": True, "task": "total", "fast": task == "total_fast", "device": "cpu", "quiet": True,
    }  # fmt: skip
    assert asked["weights"] == "W"
    assert asked["output"] is None
    assert asked["settings"]["send_usage_stats"] is False, "nothing is sent from a hospital"
    assert np.array_equal(np.load(tmp_path / "labels.npy"), (hu > 0) * 5)
    assert "package" in json.loads((tmp_path / "facts.out").read_text())["by"]


def test_resampling_is_by_whole_numbers_and_a_ct_on_the_grid_keeps_its_voxels(tmp_path: Path) -> None:
    path, _ = write_ct(tmp_path)
    image = nibabel.as_closest_canonical(nibabel.load(path))
    other = totalsegmentator._resample(image, 2.0)
    assert other.shape == (3, 5, 6)
    assert np.allclose(other.header.get_zooms(), 2.0)
    same = totalsegmentator._resample(other, 2.0)
    assert np.array_equal(same.get_fdata(), other.get_fdata())
    assert np.asarray(other.dataobj).dtype == np.int32


def test_label_maps_are_compared_voxel_by_voxel_and_by_organ() -> None:
    one = np.array([[[0, 1, 1, 2, 2, 0]]], dtype=np.uint8)
    other = np.array([[[0, 1, 2, 2, 2, 3]]], dtype=np.uint8)
    known = np.array([[[True, True, False, True, True, True]]])
    found = compare(one, other, known)
    assert (found.voxels, found.labelled, found.differ, found.differ_known) == (6, 5, 2, 1)
    assert found.organs == 3
    assert found.dice_lowest == 0.0
    assert found.dice_mean == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


def test_numbers_of_the_parts_become_those_of_the_bundle() -> None:
    manifest = SimpleNamespace(
        priorities={"liver": 0, "heart": 0, "spleen": 0},
        parts=[SimpleNamespace(labels={2: "spleen"}), SimpleNamespace(labels={1: "heart", 3: "liver"})],
    )
    inputs = rivals.Inputs(
        options=Namespace(),
        weights=Path(),
        bundle=SimpleNamespace(manifest=manifest),  # type: ignore[arg-type]
        models=(("a", 0), ("b", 2)),
    )
    theirs = np.array([[[0, 1, 2, 3, 4, 5]]], dtype=np.uint8)
    assert rivals._in_our_numbers(theirs, inputs).tolist() == [[[0, 0, 3, 2, 0, 1]]]
