"""Old organs keep their heads, new ones get a head of their own."""

from __future__ import annotations

import pytest
import torch

from orgseg_training.errors import StartUnfit
from orgseg_training.nnunet.warm_start import warm_weights

HEAD = "decoder.seg_layers.0.weight"
BODY = "encoder.stages.0.weight"


def _state(organs: int, fill: float) -> dict[str, torch.Tensor]:
    return {HEAD: torch.full((organs + 1, 5, 1, 1, 1), fill), BODY: torch.full((2, 2), fill)}


def test_heads_follow_their_organ() -> None:
    pretrained = _state(3, 0.0)
    for channel in range(4):
        pretrained[HEAD][channel] = channel
    found = warm_weights(_state(3, 9.0), pretrained, [0, 3, None, 1])
    assert found[HEAD][:, 0, 0, 0, 0].tolist() == pytest.approx([0.0, 3.0, 0.9, 1.0])
    assert torch.equal(found[BODY], pretrained[BODY])


@pytest.mark.parametrize(
    "pretrained",
    [
        {HEAD: torch.zeros(3, 5, 1, 1, 1)},
        {HEAD: torch.zeros(3, 5, 1, 1, 1), BODY: torch.zeros(3, 3)},
        {HEAD: torch.zeros(3, 6, 1, 1, 1), BODY: torch.zeros(2, 2)},
    ],
)
def test_another_network_is_refused(pretrained: dict[str, torch.Tensor]) -> None:
    with pytest.raises(StartUnfit):
        warm_weights(_state(2, 1.0), pretrained, [0, 1, 2])
