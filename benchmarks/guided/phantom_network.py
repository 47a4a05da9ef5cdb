"""Networks that find the organs of the phantom: their weights are set, not trained.

Each organ of the phantom has a HU of its own. A short training does not teach a small network 26 of them, and
networks that find nothing, or everything, say little about a guide. So the weights are set such that a voxel
belongs to the organ of the nearest HU where the image is even, which it is not at surfaces, where HU in
between would look like other organs. Only the first and the last stage of the U-Net are used; the others
compute as in any network, with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.as_trained import write_as_trained
from benchmarks.inference.model import BundleSpec, build_network, nnunet_plans
from benchmarks.inference.phantom import organs
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained

_BODY_HU, _AIR_HU = 30.0, -1000.0
_MEAN, _STD = -300.0, 500.0  # of the normalisation, see `nnunet_plans`
_LOWEST_HU = -1000.0  # of the normalisation
_OFFSET = 2.0  # makes all normalised HU positive, so that they pass the activation unchanged
_SQUARE = 4e-4  # logits for each squared HU
_SLOPE = 0.2  # logits for each HU
_WIDTH_HU = 28.0  # of an organ to both sides
_NOISE = 0.08  # normalised HU by which neighbours on both sides differ in an even image, all axes together
_UNUSED = 1e-3  # in layers that do not reach the labels; layers of zeros only are refused as damaged
_UNEVEN = 200.0  # logits for each normalised HU of such a difference above the noise


def phantom_bundle(keys: Sequence[str], spacing_mm: float, folder: Path, *, single: bool) -> ModelBundle:
    """A bundle that finds the organs of the phantom; made if it does not exist.

    Parameters
    ----------
    keys : of the organs of the phantom, in their order
    spacing_mm : of the grid of the networks
    folder : of bundles
    single : whether each organ has a network of its own; otherwise one network finds all
    """
    target = folder / f"phantom-{'single' if single else 'together'}-{spacing_mm:g}mm"
    if target.is_dir():
        return open_bundle(target)
    hus = [float(organ[-1]) for organ in organs(len(keys) + 1)]
    sets = [[n] for n in range(len(keys))] if single else [list(range(len(keys)))]
    parts = [
        PartDraft(
            folder=_write([keys[n] for n in numbers], [hus[n] for n in numbers], spacing_mm, folder / "set"),
            label_map={label: keys[n] for label, n in enumerate(numbers, start=1)},
            name=keys[numbers[0]] if single else "all",
        )
        for numbers in sets
    ]
    draft = BundleDraft(
        name=target.name,
        version="1",
        title="Benchmark",
        intended_use="benchmarks only",
        trained_on="nothing: its weights were set",
        licence="none",
        card="# Benchmark",
    )
    return export_trained(parts, draft, target, trusted=False)


def _write(keys: Sequence[str], hus: Sequence[float], spacing_mm: float, folder: Path) -> Path:
    """Write a network that finds some organs by their HU."""
    classes = len(keys) + 1
    spec = BundleSpec(classes=classes, folds=1, patch=48, spacing_mm=spacing_mm, features="small", steps=0)
    name = f"Dataset900_{keys[0] if classes == 2 else 'all'}"
    plans: dict[str, Any] = nnunet_plans(spec)
    architecture = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    architecture |= {"norm_op": None, "norm_op_kwargs": None}  # HU must not depend on what a tile shows
    network = build_network(plans, classes)
    _set_weights(network, hus)
    labels = {"background": 0} | {key: label for label, key in enumerate(keys, start=1)}
    return write_as_trained(network, plans, labels, name, folder)


@torch.no_grad()
def _set_weights(network: Any, hus: Sequence[float]) -> None:
    """Set the weights of a U-Net so that it finds organs by their HU."""
    for parameter in network.parameters():
        parameter.zero_()
    first, second = (block.conv for block in network.encoder.stages[0][0].convs)
    third, fourth = (block.conv for block in network.decoder.stages[-1].convs)
    head = network.decoder.seg_layers[-1]
    for layer in network.modules():
        weight = getattr(layer, "weight", None)
        if weight is not None and layer not in (first, second, third, fourth, head):
            weight.view(-1)[0] = _UNUSED
    skip, centre = third.weight.shape[1] - first.weight.shape[0], (1, 1, 1)
    first.weight[0, 0], first.bias[0] = 1 / 27, _OFFSET  # the mean of the neighbours
    for axis in range(3):  # how much neighbours on both sides differ, once with each sign
        for channel, sign in ((1 + axis, 1.0), (4 + axis, -1.0)):
            planes = first.weight[channel, 0].movedim(axis, 0)
            planes[0], planes[2] = sign / 9, -sign / 9
    second.weight[(0, slice(1, 7), *centre)], second.bias[0] = 1, -_NOISE
    # how far above one HU, and how far below another
    above, below = (hus[0], hus[0]) if len(hus) == 1 else (_LOWEST_HU, (_AIR_HU + min(hus)) / 2)
    for channel, sign, hu in ((1, 1.0, above), (2, -1.0, below)):
        second.weight[(channel, 0, *centre)] = sign
        second.bias[channel] = -sign * (_OFFSET + (hu - _MEAN) / _STD)
    for channel in range(3):
        third.weight[(channel, skip + channel, *centre)] = 1
        fourth.weight[(channel, channel, *centre)] = 1
    head.weight[1:, 0] = -_UNEVEN
    if len(hus) == 1:
        head.weight[1, 1:3] = -_SLOPE * _STD
        head.bias[1] = _SLOPE * min(_WIDTH_HU, abs(hus[0] - _BODY_HU) / 2, abs(hus[0] - _AIR_HU) / 2)
        return
    # minus the square of the difference, without the square of the voxel, which all labels have
    for label, hu in enumerate([_BODY_HU, *hus]):
        head.weight[label, 1] = _SQUARE * 2 * hu * _STD
        head.bias[label] = _SQUARE * (2 * hu * _LOWEST_HU - hu**2)
    head.weight[0, 2] = _SQUARE * 8 * (_BODY_HU - _AIR_HU) * _STD  # air is background as well
