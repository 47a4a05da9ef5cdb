"""Lowering the background: the number with the highest mean Dice over the organs is found and applied."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from orgseg_training.nnunet.background_shift import (
    SHIFTS,
    best_shift,
    lower_background,
    organ_margins,
    shifted_dice,
)


def _logits(needed: float) -> tuple[torch.Tensor, np.ndarray]:
    """Voxels of organ 1, half of them a bit below the background, and far background."""
    drawn = np.arange(400) < 200
    logits = torch.zeros(3, 400)
    logits[1] = torch.tensor(np.where(np.arange(400) < 100, 5.0, np.where(drawn, -needed + 0.1, -9.0)))
    logits[2] = -20.0
    return logits, drawn


def test_margin_and_organ_of_a_voxel() -> None:
    margins, organs = organ_margins(torch.tensor([[1.0, 0.0], [3.0, -1.0], [2.0, -0.5]]))
    assert margins.tolist() == [2.0, -0.5]
    assert organs.tolist() == [1, 2]


@pytest.mark.parametrize("needed", [0.5, 1.5, 2.75])
def test_the_shift_that_finds_the_doubtful_voxels(needed: float) -> None:
    logits, drawn = _logits(needed)
    margins, organs = organ_margins(logits).numpy()
    dice = shifted_dice(margins, organs.astype(int), drawn, 1)
    assert dice[0] == pytest.approx(2 * 100 / 300)
    assert dice[-1] == pytest.approx(1.0)
    shift, gain = best_shift({"mandible": [dice], "larynx": []})
    assert shift == needed
    assert gain == pytest.approx(1 / 3)


def test_a_network_that_draws_too_much_is_left_as_it_is() -> None:
    logits, drawn = _logits(1.0)
    margins, organs = organ_margins(logits).numpy()
    dice = shifted_dice(margins, organs.astype(int), drawn & (np.arange(400) < 100), 1)
    assert best_shift({"mandible": [dice]}) == (0.0, 0.0)


def test_every_organ_counts_the_same_however_often_it_is_drawn() -> None:
    rising, falling = np.linspace(0.5, 0.6, len(SHIFTS)), np.linspace(0.7, 0.5, len(SHIFTS))
    assert best_shift({"a": [rising] * 10, "b": [falling]})[0] == 0.0


def test_the_background_of_the_last_layer_is_lowered() -> None:
    layer = torch.nn.Conv3d(2, 3, 1)
    old = layer.bias.detach().clone()
    lower_background(layer, 1.5)
    assert (layer.bias - old).tolist() == pytest.approx([-1.5, 0.0, 0.0])
