"""A protocol of three organs on a bundle of 26 networks: time beside the full run, and voxels that differ.

``python -m benchmarks.inference.subset FOLDER``. The networks share one body, trained for a minute on the
phantom, and differ in their last layer, so that each finds one organ. Their priorities are drawn at random;
the three organs are taken from the top, the middle and the end of the order. It ends with a summary line, and
with 1 if a voxel of a requested organ differs.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.inference.model import BundleSpec, make_bundle
from benchmarks.inference.phantom import slices
from orgseg_node.core.body import find_body
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import load_organs
from orgseg_node.core.volume import Volume
from orgseg_node.inference.backends.streaming import StreamingPredictor
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.predictor import InferenceSettings, Prediction
from orgseg_node.shipped import shipped_config

_ORGANS = 26
_SPEC = BundleSpec(classes=_ORGANS + 1, folds=1, patch=64, spacing_mm=3.0, features="small", steps=150)


def main() -> int:
    """Make the bundle, run it whole and for three organs, and print what it took."""
    folder = Path(sys.argv[1])
    bundle = _ranked(_single_organ_networks(folder))
    spacing = (3.0, 1.5, 1.5)
    hu, _ = slices(np.arange(90) * spacing[0], 260, spacing[1], _SPEC.classes, seed=99)
    volume = Volume(grid=Grid(shape=hu.shape, spacing_mm=spacing, origin_mm=(0.0, 0.0, 0.0)), hu=hu)
    full, full_s = _predict(bundle, volume, None)
    order = sorted(bundle.manifest.organs, key=lambda key: -bundle.manifest.priorities[key])
    middle = (_ORGANS - 3) // 2
    ratios, differing = [], 0
    for name, keys in (
        ("highest", order[:3]),
        ("middle", order[middle : middle + 3]),
        ("lowest", order[-3:]),
    ):
        part, part_s = _predict(bundle, volume, set(keys))
        wrong = sum(int((_mask(part, key) != _mask(full, key)).sum()) for key in keys)
        found = sum(int(_mask(full, key).sum()) for key in keys)
        differing += wrong
        ratios.append(part_s / full_s)
        print(
            f"{name} three by priority: {part_s:.1f} s of {full_s:.1f} s, {part_s / full_s:.2f} x; "
            f"{wrong} of {found} voxels differ; {part.method}",
            flush=True,
        )
    print(
        f"subset: 3 of {_ORGANS} organs in {min(ratios):.2f} to {max(ratios):.2f} x the time of all; "
        f"{differing} voxels differ"
    )
    return 1 if differing else 0


def _single_organ_networks(folder: Path) -> ModelBundle:
    """One network for each organ, cut out of a network that finds all of them."""
    target = folder / "single-organ"
    if target.is_dir():
        return open_bundle(target)
    make_bundle(_SPEC, folder)
    trained = (
        folder / "trained" / _SPEC.name / "Dataset900_Phantom" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    )
    keys = list(load_organs(shipped_config("organs.toml")))[:_ORGANS]
    parts = []
    for number, key in enumerate(keys, start=1):
        own = folder / "trained" / "single" / f"Dataset{900 + number}_{key}" / trained.name
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(trained, own)
        labels = {"background": 0, key: 1}
        (own / "dataset.json").write_text(
            json.dumps({"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"})
        )
        path = own / "fold_0" / "checkpoint_final.pth"
        checkpoint = torch.load(path, weights_only=True)
        weights = checkpoint["network_weights"]
        for name in [n for n in weights if "seg_layers" in n]:
            weights[name] = weights[name][[0, number]].clone()
        torch.save(checkpoint, path)
        parts.append(PartDraft(folder=own, label_map={1: key}, name=key))
    texts = dict.fromkeys(("title", "intended_use", "trained_on", "licence", "card"), "benchmarks only")
    return export_trained(parts, BundleDraft(name="single-organ", version="1", **texts), target)  # type: ignore[arg-type]


def _ranked(bundle: ModelBundle) -> ModelBundle:
    dice = np.random.default_rng(0).permutation(_ORGANS) / 100 + 0.7
    parts = tuple(
        replace(part, priorities=dict.fromkeys(part.labels.values(), float(value)))
        for part, value in zip(bundle.manifest.parts, dice, strict=True)
    )
    return replace(bundle, manifest=replace(bundle.manifest, parts=parts))


def _predict(bundle: ModelBundle, volume: Volume, requested: set[str] | None) -> tuple[Prediction, float]:
    table, settings = load_organs(shipped_config("organs.toml")), InferenceSettings(device="cpu")
    predictor = StreamingPredictor(bundle, table, settings, torch.device("cpu"), requested=requested)
    body = find_body(volume)
    begun = time.process_time()
    found = predictor.predict(volume, body, lambda *_: None)
    return found, time.process_time() - begun


def _mask(found: Prediction, key: str) -> np.ndarray:
    number = next(n for n, organ in found.label_map.organs.items() if organ.key == key)
    return found.label_map.labels == number


if __name__ == "__main__":
    sys.exit(main())
