"""The memory of a run is known before it starts; what does not fit goes to a file or is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from orgseg_node.errors import OutOfMemory
from orgseg_node.inference.engine.available import free_memory
from orgseg_node.inference.engine.budget import MemoryNeed, activation_bytes, estimate_memory, plan_memory
from orgseg_node.inference.engine.label_planes import INTERPOLATED_BYTES
from orgseg_node.inference.engine.slab import AccumulatorStorage
from orgseg_node.inference.engine.tiles import Tiling
from tests.support.models.tiny_nnunet import TinyModel, tiny_network

_CPU = torch.device("cpu")
_MB = 1 << 20
_TILING = Tiling.covering((100, 120, 140), (32, 64, 64), 0.5)
_NEED = MemoryNeed(
    slab=1000 * _MB,
    folds=5,
    tile=200 * _MB,
    image=50 * _MB,
    plane=3 * _MB,
    waiting=7 * _MB,
    working=3000 * _MB,
    output=10 * _MB,
)


def _budget(beside_mb: int) -> int:
    """A budget that leaves so much beside what this process holds already."""
    return int(psutil.Process().memory_info().rss) // _MB + beside_mb


def test_the_need_is_that_of_the_slab_and_not_of_the_number_of_slices() -> None:
    need = estimate_memory(_TILING, heads=20, folds=3, activations=7 * _MB, ct=(200, 512, 512))
    assert need.slab == 2 * (20 + 1) * 32 * 120 * 140
    assert need.tile == 7 * _MB
    assert need.waiting == 2 * 20 * 14 * 120 * 140
    assert need.working == 4 * 100 * 120 * 140
    longer = estimate_memory(
        Tiling.covering((1000, 120, 140), (32, 64, 64), 0.5),
        heads=20,
        folds=3,
        activations=7 * _MB,
        ct=(2000, 512, 512),
    )
    assert (longer.slab, longer.tile, longer.image) == (need.slab, need.tile, need.image)
    assert longer.output == 10 * need.output


def test_more_channels_and_more_folds_need_more() -> None:
    def host(heads: int, folds: int, storage: AccumulatorStorage = AccumulatorStorage.HOST) -> int:
        need = estimate_memory(_TILING, heads=heads, folds=folds, activations=0, ct=(200, 300, 300))
        return need.host_bytes(storage, cuda=False, keep_working_volume=False)

    assert host(2, 1) < host(20, 1) < host(20, 5)
    averaged = (4 * 2 * 20 + 10 * (5 + 10)) * 120 * 140  # four more planes of logits; five folds, ten pairs
    assert host(20, 5) - host(20, 1) == 4 * 2 * 21 * 32 * 120 * 140 + averaged
    assert host(20, 5, AccumulatorStorage.FILE) - host(20, 1, AccumulatorStorage.FILE) == averaged
    assert host(20, 1, AccumulatorStorage.FILE) == host(20, 1)


def test_with_a_gpu_tile_and_accumulators_need_no_main_memory() -> None:
    assert _NEED.host_bytes(AccumulatorStorage.DEVICE, cuda=True, keep_working_volume=False) == 60 * _MB
    assert (
        _NEED.host_bytes(AccumulatorStorage.HOST, cuda=True, keep_working_volume=True)
        == (5000 + 60 + 3 + 7 + 3000) * _MB
    )
    assert _NEED.device_bytes == (5250 + 8 * 3 + 7) * _MB + INTERPOLATED_BYTES


def test_with_enough_memory_the_accumulators_are_in_memory() -> None:
    found = plan_memory(_NEED, _budget(5500), _CPU, shared=False)
    assert (found.accumulators, found.keep_working_volume, found.need_mb) == (
        AccumulatorStorage.HOST,
        False,
        5263,
    )
    assert 5400 < found.budget_mb < 5600


def test_with_less_memory_they_are_in_a_file() -> None:
    found = plan_memory(_NEED, _budget(1500), _CPU, shared=False)
    assert (found.accumulators, found.keep_working_volume, found.need_mb) == (
        AccumulatorStorage.FILE,
        False,
        1263,
    )


def test_with_even_less_memory_the_run_is_refused_with_both_numbers() -> None:
    with pytest.raises(OutOfMemory, match=r"needs about \d+ MB of main memory; \d+ MB are allowed"):
        plan_memory(_NEED, _budget(900), _CPU, shared=False)
    with pytest.raises(OutOfMemory):
        plan_memory(_NEED, 1, _CPU, shared=False)


@pytest.mark.parametrize(
    ("beside_mb", "storage", "keep"),
    [
        (9000, AccumulatorStorage.HOST, True),
        (6000, AccumulatorStorage.HOST, False),
        (2000, AccumulatorStorage.FILE, False),
    ],
)
def test_a_shared_working_volume_is_kept_if_there_is_memory_for_it(
    beside_mb: int,
    storage: AccumulatorStorage,
    keep: bool,  # noqa: FBT001  # a parameter
) -> None:
    found = plan_memory(_NEED, _budget(beside_mb), _CPU, shared=True)
    assert (found.accumulators, found.keep_working_volume) == (storage, keep)


def test_without_a_budget_nearly_all_free_memory_may_be_used() -> None:
    small = replace(_NEED, slab=_MB, tile=_MB, working=0)
    found = plan_memory(small, None, _CPU, shared=False)
    assert found.accumulators == AccumulatorStorage.HOST
    assert found.budget_mb == pytest.approx(0.9 * free_memory() / _MB, rel=0.3)
    with pytest.raises(OutOfMemory):
        plan_memory(replace(_NEED, slab=psutil.virtual_memory().total), None, _CPU, shared=False)


def test_memory_of_a_gpu_that_pytorch_keeps_from_earlier_runs_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def storage(free: int, reserved: int, allocated: int) -> AccumulatorStorage:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free * _MB, 80_000 * _MB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: reserved * _MB)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: allocated * _MB)
        return plan_memory(_NEED, _budget(9000), torch.device("cuda"), shared=False).accumulators

    assert _NEED.device_bytes < 0.9 * 6500 * _MB
    assert storage(6500, 0, 0) == AccumulatorStorage.DEVICE
    assert storage(1000, 500, 500) == AccumulatorStorage.HOST
    assert storage(1000, 6000, 500) == AccumulatorStorage.DEVICE


def test_the_limit_of_a_container_counts_where_there_is_one(tmp_path: Path) -> None:
    assert free_memory(tmp_path / "none") > 100 * _MB
    (tmp_path / "memory.max").write_text("90000000\n")
    (tmp_path / "memory.current").write_text("20000000\n")
    assert free_memory(tmp_path) == 70_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > 100 * _MB


def test_activation_bytes_grow_with_the_tile_and_the_network_is_not_changed() -> None:
    network = tiny_network(TinyModel(), seed=1).eval()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    small, large = (activation_bytes(network, (2, 2, 4), (n, n, n)) for n in (16, 32))
    assert activation_bytes(network, (8, 8, 8), (16, 16, 16)) == small  # the rehearsal's tile does not matter
    assert large == pytest.approx(8 * small, rel=0.01)
    assert small > 4 * 4 * 16**3  # at least the first layer's output
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert next(network.parameters()).device == _CPU
