"""Bundles of one network for each organ, made of trained networks whose output is cut to one organ.

The networks keep their trained weights, so their organs are real; only the last layer, which has one output
for each organ, loses the outputs of the others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from orgseg_node.inference.backends.network import load_weights
from orgseg_node.inference.bundles.bundle import ModelBundle, Part, open_bundle
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained


def single_organ_bundle(
    source: ModelBundle, name: str, folder: Path, organs: Sequence[str] | None = None
) -> ModelBundle:
    """A bundle with one network for each organ of another bundle; made if it does not exist.

    Parameters
    ----------
    source : a bundle whose networks may find several organs
    name : of the new bundle
    folder : of bundles
    organs : keys of the organs; None for all
    """
    target = folder / name
    if target.is_dir():
        return open_bundle(target)
    drafts = [
        PartDraft(
            folder=_cut(source, part, label, key, folder / "trained" / name),
            label_map={1: key},
            priority={key: part.priorities[key]} if key in part.priorities else {},
            name=key,
        )
        for part in source.manifest.parts
        for label, key in part.labels.items()
        if organs is None or key in organs
    ]
    manifest = source.manifest
    draft = BundleDraft(
        name=name,
        version="1",
        title="Benchmark",
        intended_use="benchmarks only",
        trained_on=manifest.trained_on,
        licence=manifest.licence,
        card="# Benchmark",
        preprocessing=manifest.preprocessing,
        mirroring=False,
        tile_step_size=manifest.tile_step_size,
    )
    return export_trained(drafts, draft, target, trusted=False)


def _cut(source: ModelBundle, part: Part, label: int, key: str, folder: Path) -> Path:
    """Write a network whose output is background and one organ, as nnU-Net's trainer would leave it."""
    plans = json.loads((source.path / part.plans).read_text())
    dataset = json.loads((source.path / part.dataset).read_text())
    dataset |= {"labels": {"background": 0, key: 1}, "name": f"Dataset900_{key}"}
    plans["dataset_name"] = dataset["name"]
    trained = folder / dataset["name"] / f"{part.trainer}__nnUNetPlans__{part.configuration}"
    for fold, weights in zip(part.folds, part.weights, strict=True):
        place = trained / f"fold_{fold}"
        place.mkdir(parents=True, exist_ok=True)
        checkpoint: dict[str, Any] = {
            "network_weights": {
                name: tensor[[0, label]] if ".seg_layers." in name else tensor
                for name, tensor in load_weights(source.path / weights).items()
            },
            "trainer_name": part.trainer,
            "init_args": {"configuration": part.configuration},
            "inference_allowed_mirroring_axes": None,
        }
        torch.save(checkpoint, place / "checkpoint_final.pth")
    (trained / "plans.json").write_text(json.dumps(plans))
    (trained / "dataset.json").write_text(json.dumps(dataset))
    return trained
