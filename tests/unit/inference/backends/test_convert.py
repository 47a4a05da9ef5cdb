"""Weights as they are written into a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from orgseg_node.errors import ModelUnsupported
from orgseg_node.inference.backends import convert
from tests.support.models.tiny_nnunet import TinyModel, tiny_dataset, tiny_plans


def test_the_same_weights_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    network[1].weight = network[0].weight  # one tensor with two names
    files = [tmp_path / f"{number}.safetensors" for number in range(12)]
    for file in files:
        convert._save(network, file, half_precision=False)
    assert len({file.read_bytes() for file in files}) == 1


def test_a_network_with_batch_normalisation_counts_its_batches_in_whole_numbers() -> None:
    plans: dict[str, Any] = tiny_plans(TinyModel())
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network["norm_op"] = "torch.nn.modules.batchnorm.BatchNorm3d"
    dataset = tiny_dataset(TinyModel())
    trained = convert.build_network(plans, dataset, "3d_fullres").state_dict()
    assert any(not tensor.is_floating_point() for tensor in trained.values())
    filled = convert._filled_network(plans, dataset, "3d_fullres", trained)
    assert all(torch.equal(filled.state_dict()[name], tensor) for name, tensor in trained.items())
    rounded = {name: tensor.to(torch.int8) for name, tensor in trained.items()}
    with pytest.raises(ModelUnsupported, match="quantised"):
        convert._filled_network(plans, dataset, "3d_fullres", rounded)
    plain = tiny_plans(TinyModel())
    with pytest.raises(ModelUnsupported, match="nnUNetTrainerBN"):
        convert._filled_network(plain, dataset, "3d_fullres", trained)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")]
)
def test_too_little_memory_is_no_damaged_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    request, reply, file = (tmp_path / name for name in ("request", "reply", "checkpoint_final.pth"))
    file.write_bytes(b"x")
    request.write_text(json.dumps([{"checkpoint": str(file), "trusted": False}]))
    assert convert.main([str(request), str(reply)]) == 1
    (answer,) = json.loads(reply.read_text())
    assert (answer["code"], answer["problem"][:26]) == ("BUNDLE_NOT_IMPORTABLE", "There is too little free m")
