"""An organ that was not drawn is never background for the loss."""

from __future__ import annotations

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from orgseg_training.nnunet.partial_loss import PartialDiceCrossEntropy

SHAPE = (2, 1, 4, 5, 6)


def _logits(seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(2, 4, 4, 5, 6, requires_grad=True)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_with_all_organs_drawn_it_is_the_loss_of_nnunet(*, batch_dice: bool) -> None:
    logits = _logits()
    target = torch.randint(0, 4, SHAPE)
    ours = PartialDiceCrossEntropy(3, [[2]], batch_dice=batch_dice)(logits, target)
    soft = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
    theirs = DC_and_CE_loss(soft, {}, dice_class=MemoryEfficientSoftDiceLoss)
    assert torch.allclose(ours, theirs(logits, target), atol=1e-5)


def test_an_unknown_organ_gets_no_push_down() -> None:
    logits = _logits()
    loss = PartialDiceCrossEntropy(3, [[2]], batch_dice=True)
    loss(logits, torch.full(SHAPE, 4)).backward()  # background or organ 2
    assert logits.grad is not None
    assert float(logits.grad[:, 2].sum()) < 0  # a step raises it together with background
    as_background = _logits()
    loss(as_background, torch.zeros(SHAPE)).backward()
    assert as_background.grad is not None
    assert float(as_background.grad[:, 2].sum()) > 0


def test_the_share_of_background_and_unknown_organ_is_free() -> None:
    loss = PartialDiceCrossEntropy(3, [[2]], batch_dice=True)
    one, other = torch.full((1, 4, 2, 2, 2), -9.0), torch.full((1, 4, 2, 2, 2), -9.0)
    one[:, 0], other[:, 2] = 9.0, 9.0
    target = torch.full((1, 1, 2, 2, 2), 4)
    assert torch.allclose(loss(one, target), loss(other, target), atol=1e-4)


def test_a_known_organ_is_still_learned_beside_an_unknown_one() -> None:
    loss = PartialDiceCrossEntropy(3, [[2, 3]], batch_dice=True)
    target = torch.full((1, 1, 2, 2, 2), 4)
    target[..., 0] = 1
    wrong = torch.zeros(1, 4, 2, 2, 2)
    right = wrong.clone()
    right[:, 1, ..., 0], right[:, 1, ..., 1] = 5.0, -5.0
    assert float(loss(right, target)) < float(loss(wrong, target))
