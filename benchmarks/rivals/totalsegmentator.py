"""TotalSegmentator on one CT: ``python -m benchmarks.rivals.totalsegmentator REQUEST``, a JSON file.

Where the package TotalSegmentator is installed, its Python interface is called. Otherwise nnU-Net's predictor
is called as TotalSegmentator calls it: the CT in RAS is resampled by cubic splines to the spacing of the
networks and rounded toward zero, each network runs on it with steps of 0.8 patches (`total`) or 0.5, without
mirroring, through files and worker processes; a later network overwrites an earlier one; the labels are
resampled back to the CT by nearest neighbours. Images of more than 512 x 512 x 900 resampled voxels, which
TotalSegmentator would cut into three, are not cut.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.inference.bundles.totalsegmentator import TASKS

PACKAGE: Final = "totalsegmentator"


def main(request: dict[str, Any]) -> None:
    """Label the CT of a request; write the labels (K, J, I) in LPS, and what was measured."""
    stages: dict[str, float] = {}
    started = time.perf_counter()
    installed = importlib.util.find_spec(PACKAGE) is not None and not request["replica"]
    with redirect_stdout(sys.stderr):
        run = _by_package if installed else _as_it_calls_nnunet
        labels = run(request, stages)
    facts = {
        "seconds": time.perf_counter() - started,
        "stages": stages,
        "by": f"the package {PACKAGE}" if installed else f"nnU-Net's predictor as {PACKAGE} calls it",
    }
    np.save(request["labels"], labels)
    Path(request["facts"]).write_text(json.dumps(facts))


def _by_package(request: dict[str, Any], stages: dict[str, float]) -> NDArray[np.uint8]:
    home = Path(request["home"])
    home.mkdir(exist_ok=True)
    settings = {"totalseg_id": "benchmark", "send_usage_stats": False, "statistics_disclaimer_shown": True}
    (home / "config.json").write_text(json.dumps(settings | {"prediction_counter": 0}))
    os.environ |= {"TOTALSEG_HOME_DIR": str(home), "TOTALSEG_WEIGHTS_PATH": request["weights"]}
    api = importlib.import_module(f"{PACKAGE}.python_api")
    with _timed(stages, "all"):
        found = api.totalsegmentator(
            request["ct"],
            None,
            ml=True,
            task="total",
            fast=request["task"] == "total_fast",
            device="gpu" if request["device"] == "cuda" else "cpu",
            quiet=True,
        )
    return _to_lps(np.asarray(found.dataobj).astype(np.uint8), found.affine)


def _as_it_calls_nnunet(request: dict[str, Any], stages: dict[str, float]) -> NDArray[np.uint8]:
    spacing = float(request["spacing_mm"])
    with _timed(stages, "read"):
        original = nibabel.load(request["ct"])
        image = nibabel.as_closest_canonical(nibabel.Nifti1Image(original.get_fdata(), original.affine))
    with _timed(stages, "resample"):
        resampled = _resample(image, spacing)
    merged = np.zeros(resampled.shape, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "in").mkdir()
        (place / "out").mkdir()
        nibabel.save(resampled, place / "in" / "s01_0000.nii.gz")
        for model, offset in request["models"]:
            with _timed(stages, "predict"):
                _predict(Path(model), place, request)
            found = np.asarray(nibabel.load(place / "out" / "s01.nii.gz").dataobj).astype(np.uint8)
            merged[found > 0] = found[found > 0] + offset
    with _timed(stages, "resample back"):
        back = merged if resampled.shape == image.shape else _nearest(merged, image.shape)
    return _to_lps(back, image.affine)


def _resample(image: Any, spacing_mm: float) -> Any:
    """A copy at this spacing, as whole numbers; one that has this spacing keeps its voxels."""
    zoom = np.array(image.header.get_zooms()) / spacing_mm
    data = image.get_fdata()
    if not np.allclose(zoom, 1.0, atol=1e-6):
        data = ndimage.zoom(data, zoom, order=3)
    affine = image.affine.copy()
    affine[:3, :3] /= zoom
    return nibabel.Nifti1Image(data.astype(np.int32), affine)


def _nearest(labels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = ndimage.zoom(labels, np.array(shape) / np.array(labels.shape), order=0)
    return found


def _predict(model: Path, place: Path, request: dict[str, Any]) -> None:
    import torch  # noqa: PLC0415  # counted as TotalSegmentator's own time
    from nnunetv2.inference import predict_from_raw_data  # noqa: PLC0415
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: PLC0415

    # these trainers build the network of the plain one; the search would import all trainers of nnU-Net
    predict_from_raw_data.recursive_find_trainer_class_by_name = lambda *_: nnUNetTrainer
    torch.set_num_threads(1 if request["device"] == "cuda" else os.cpu_count() or 1)
    predictor = predict_from_raw_data.nnUNetPredictor(
        tile_step_size=TASKS[request["task"]].tile_step_size,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=True,
        device=torch.device(request["device"]),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(
        str(model), use_folds=[0], checkpoint_name="checkpoint_final.pth"
    )
    predictor.predict_from_files(
        str(place / "in"),
        str(place / "out"),
        save_probabilities=False,
        overwrite=True,
        num_processes_preprocessing=1,
        num_processes_segmentation_export=request["saving_processes"],
    )


def _to_lps(array: NDArray[np.uint8], affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An array of NIfTI (i, j, k, RAS) as (K, J, I) whose axes grow to the head, the back and the left."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(("L", "P", "S")))
    turned = nibabel.orientations.apply_orientation(array, turn)
    return np.ascontiguousarray(turned.transpose(2, 1, 0))


@contextmanager
def _timed(stages: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    stages[name] = stages.get(name, 0.0) + time.perf_counter() - started


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
