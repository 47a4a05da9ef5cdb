"""Weights as they are written into a bundle."""

from __future__ import annotations

from pathlib import Path

import torch

from orgseg_node.inference.backends import convert


def test_the_same_weights_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    network[1].weight = network[0].weight  # one tensor with two names
    files = [tmp_path / f"{number}.safetensors" for number in range(12)]
    for file in files:
        convert._save(network, file, half_precision=False)
    assert len({file.read_bytes() for file in files}) == 1
