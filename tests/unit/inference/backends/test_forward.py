"""Weights that are kept in the precision of autocast give the same bits."""

from __future__ import annotations

import torch

from orgseg_node.inference.backends.forward import autocast_weights
from tests.support.models.tiny_nnunet import TinyModel, tiny_network


def test_convolutions_rounded_beforehand_give_the_bits_of_autocast() -> None:
    network = tiny_network(TinyModel(), 3).eval()
    state = network.state_dict()
    rounded = autocast_weights(network, state, torch.bfloat16)
    kinds = {name.rsplit(".", 2)[-2]: t.dtype for name, t in rounded.items()}
    assert kinds["conv"] == torch.bfloat16
    assert kinds["norm"] == torch.float32
    assert all(t.dtype == torch.float32 for t in state.values())
    tile = torch.randn((1, 1, 16, 16, 16), generator=torch.Generator().manual_seed(5))
    found = []
    for weights in (state, rounded):
        network.load_state_dict(weights, assign=True)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(network(tile)[0])
    assert torch.equal(*found)
