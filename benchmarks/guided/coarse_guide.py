"""A guide for the benchmark: one network of seven organs on a grid of 6 mm, trained for a few minutes.

It begins with the weights of a network on a finer grid, so that it has only to learn the other grid.
It is trained on the patients of a data set in nnU-Net's raw layout in which every organ is drawn. The CTs are
prepared as the node prepares them, so that training and use see the same.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from benchmarks.as_trained import write_as_trained
from benchmarks.inference.model import build_network
from orgseg_node.core.body import find_body
from orgseg_node.inference.backends.network import load_weights
from orgseg_node.inference.backends.network_view import view_for_network
from orgseg_node.inference.bundles.anatomy import AnatomyCase
from orgseg_node.inference.bundles.bundle import ModelBundle, Part, open_bundle
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.bundles.nnunet_cases import open_case_folder
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.engine.plans import PreprocessingPlan
from orgseg_node.inference.engine.working import HuNormalisation
from orgseg_node.inference.preparing import prepare_ct
from orgseg_node.organ_table import organ_table
from orgseg_training.nnunet.finite_steps import FiniteSteps, require_finite

_SPACING_MM: Final = 6.0
_PATCH: Final = (48, 48, 80)
_CROP: Final = (32, 48, 64)  # of the training: smaller than a tile, so that it takes minutes
_PREPARATION: Final = Preprocessing(orientation="LPS", outside_to_air=True, body_margin_mm=3.0)
_SIDES: Final = (("parotid_right", "parotid_left"),)
_LEARNING_RATE: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Patient:
    """A CT on the grid of the network, and the number of the organ at each voxel."""

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]


def coarse_guide(data: Path, folder: Path, steps: int, finer: ModelBundle) -> ModelBundle:
    """A bundle of one network that finds every organ of a data set; trained if it does not exist.

    Parameters
    ----------
    data : in nnU-Net's raw layout, with ``cases.csv``
    folder : of bundles
    steps : of the training
    finer : a bundle; its network of most organs is where the training begins
    """
    target = folder / f"coarse-guide-{steps}"
    if target.is_dir():
        return open_bundle(target)
    source = open_case_folder(data, {}, organ_table(), _left_out(data))
    keys = list(source.organs.values())
    part = max(finer.manifest.parts, key=lambda each: len(each.labels))
    plans = _plans(finer, part)
    statistics = plans["foreground_intensity_properties_per_channel"]["0"]
    preprocessing = PreprocessingPlan(
        transpose=(0, 1, 2),
        spacing_mm=(_SPACING_MM, _SPACING_MM, _SPACING_MM),
        normalisation=HuNormalisation(
            low=statistics["percentile_00_5"],
            high=statistics["percentile_99_5"],
            mean=statistics["mean"],
            std=statistics["std"],
        ),
        force_separate_z=None,
    )
    patients = [_patient(case, keys, preprocessing) for case in source.cases()]
    network = build_network(plans, len(keys) + 1)
    _warm_start(network, load_weights(finer.path / part.weights[0]), part, keys)
    _train(network, patients, _exchanged(keys), steps)
    labels = {"background": 0} | {key: number for number, key in enumerate(keys, start=1)}
    trained = write_as_trained(network, plans, labels, "Dataset901_Guide", folder / "trained" / target.name)
    draft = BundleDraft(
        name=target.name,
        version="1",
        title="Benchmark",
        intended_use="benchmarks only",
        trained_on=f"{len(patients)} patients of {data.name}, {steps} steps",
        licence="that of the data",
        card="# Benchmark",
        preprocessing=_PREPARATION,
        mirroring=False,
        tile_step_size=0.5,
    )
    made = PartDraft(folder=trained, label_map=dict(enumerate(keys, start=1)))
    return export_trained([made], draft, target, trusted=False)


def _left_out(data: Path) -> list[str]:
    """Patients that the challenge keeps for its test, and those in which an organ is not drawn."""
    with (data / "cases.csv").open(encoding="utf-8", newline="") as stream:
        return [
            row["case"] for row in csv.DictReader(stream) if "test" in row["source"] or "" in row.values()
        ]


def _plans(bundle: ModelBundle, part: Part) -> dict[str, Any]:
    """The plans of a network, for the grid of the guide."""
    plans: dict[str, Any] = json.loads((bundle.path / part.plans).read_text())
    configuration = plans["configurations"][part.configuration]
    configuration |= {"patch_size": list(_PATCH), "spacing": [_SPACING_MM] * 3}
    plans["configurations"] = {"3d_fullres": configuration}
    return plans


def _warm_start(
    network: torch.nn.Module, weights: Mapping[str, torch.Tensor], part: Part, keys: Sequence[str]
) -> None:
    """Take over the weights of a network that finds some of the organs; other organs get a new output."""
    state = network.state_dict()
    heads = {0: 0} | {label: keys.index(key) + 1 for label, key in part.labels.items() if key in keys}
    for name, tensor in weights.items():
        if ".seg_layers." in name:
            state[name][list(heads.values())] = tensor[list(heads)]
        else:
            state[name] = tensor
    network.load_state_dict(state)


def _patient(case: AnatomyCase, keys: Sequence[str], preprocessing: PreprocessingPlan) -> _Patient:
    prepared = prepare_ct(case.volume, find_body(case.volume), _PREPARATION)
    view = view_for_network(prepared, preprocessing, _PREPARATION.orientation)
    if view is None:  # pragma: no cover  # a CT of zeros
        raise SystemExit("A CT is empty.")
    numbers = np.zeros(case.volume.grid.shape, dtype=np.uint8)
    for number, key in enumerate(keys, start=1):
        numbers[case.masks[key]] = number
    labels = view.of(prepared.reorientation.apply(numbers)[prepared.box.slices])
    image = np.array(view.working.planes(0, view.working.shape[0]))
    for axis, (size, wanted) in enumerate(zip(labels.shape, image.shape, strict=True)):
        labels = labels.take(((np.arange(wanted) + 0.5) * size / wanted).astype(int), axis=axis)
    return _Patient(image=image, labels=labels)


def _exchanged(keys: Sequence[str]) -> NDArray[np.uint8]:
    """The number of each organ in a mirror."""
    numbers = np.arange(len(keys) + 1, dtype=np.uint8)
    for one, other in _SIDES:
        if one in keys and other in keys:
            a, b = keys.index(one) + 1, keys.index(other) + 1
            numbers[[a, b]] = b, a
    return numbers


def _train(
    network: torch.nn.Module, patients: Sequence[_Patient], exchanged: NDArray[np.uint8], steps: int
) -> None:
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE)
    finite_steps = FiniteSteps(optimizer)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_LEARNING_RATE, total_steps=steps)
    network.train()
    for step in range(steps):
        image, labels = _crop(patients[rng.integers(len(patients))], rng)
        if rng.random() < 0.5:
            image, labels = image[..., ::-1].copy(), exchanged[labels[..., ::-1]]
        truth = torch.from_numpy(labels.astype(np.int64))[None]
        logits = network(torch.from_numpy(image)[None, None])
        loss = functional.cross_entropy(logits, truth) + _dice_loss(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        finite_steps.record(loss.item())
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            print(f"training the guide, step {step}: loss {loss.item():.3f}", flush=True)
    require_finite(network)
    network.eval()


def _crop(patient: _Patient, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A random part; where the image is smaller, there is padding, as in the sliding window."""
    image = np.zeros(_CROP, dtype=np.float32)
    labels = np.zeros(_CROP, dtype=np.uint8)
    here, there = [], []
    for size, wanted in zip(patient.image.shape, _CROP, strict=True):
        first = int(rng.integers(min(size - wanted, 0), max(size - wanted, 0) + 1))
        there.append(slice(max(first, 0), min(first + wanted, size)))
        here.append(slice(max(-first, 0), max(-first, 0) + there[-1].stop - there[-1].start))
    image[tuple(here)], labels[tuple(here)] = patient.image[tuple(there)], patient.labels[tuple(there)]
    return image, labels


def _dice_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """One minus the mean Dice of the organs that the crop shows."""
    chances = logits.softmax(dim=1)[:, 1:]
    wanted = functional.one_hot(truth, logits.shape[1]).movedim(-1, 1)[:, 1:].float()
    space = (0, 2, 3, 4)
    both, sizes = (chances * wanted).sum(space), wanted.sum(space)
    dice = 2 * both / (chances.sum(space) + sizes + 1e-5)
    shown: torch.Tensor = sizes > 0
    return 1 - dice[shown].mean() if bool(shown.any()) else logits.sum() * 0
