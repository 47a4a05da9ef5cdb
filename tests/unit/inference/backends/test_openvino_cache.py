"""Converted networks on disk are used again only if they are unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orgseg_node.inference.backends.openvino_cache import cache_folder, cache_key, load_or_convert


class _Package:
    """A fake of OpenVINO: a network is a text."""

    def save_model(self, network: str, path: Path, *, compress_to_fp16: bool) -> None:
        assert not compress_to_fp16, "half precision would not be what was calibrated"
        path.write_text(network)
        path.with_suffix(".bin").write_bytes(b"weights")

    def Core(self) -> _Package:  # noqa: N802  # the package's own name
        return self

    def read_model(self, path: Path) -> str:
        return path.read_text() + " from disk"


@pytest.fixture
def ask(tmp_path: Path) -> Callable[[], Any]:
    return lambda: load_or_convert(tmp_path / "cache", "name", _Package(), lambda: "network")


def test_a_second_run_converts_nothing(ask: Callable[[], Any]) -> None:
    assert ask() == "network"
    assert ask() == "network from disk"


@pytest.mark.parametrize("file", ["network.xml", "network.bin", "sha256"])
def test_what_was_changed_on_disk_is_not_used_and_is_replaced(
    ask: Callable[[], Any], tmp_path: Path, file: str
) -> None:
    ask()
    (tmp_path / "cache" / "name" / file).write_bytes(b"something else")
    assert ask() == "network"
    assert ask() == "network from disk"


def test_an_incomplete_network_is_not_used_and_no_other_file_remains(
    ask: Callable[[], Any], tmp_path: Path
) -> None:
    ask()
    (tmp_path / "cache" / "name" / "network.bin").unlink()
    assert ask() == "network"
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["name"]


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert load_or_convert(tmp_path / "file", "name", _Package(), lambda: "network") == "network"
    assert load_or_convert(None, "name", _Package(), lambda: "network") == "network"


def test_the_key_changes_with_everything_that_the_conversion_depends_on() -> None:
    network = torch.nn.Conv3d(1, 2, 3)
    state = network.state_dict()
    other = {key: tensor.clone() for key, tensor in state.items()}
    other["bias"][0] += 1e-6
    names = {
        cache_key(network, state, (8, 8, 8), ("1",)),
        cache_key(network, other, (8, 8, 8), ("1",)),
        cache_key(torch.nn.Conv3d(1, 2, 3, padding=1), state, (8, 8, 8), ("1",)),
        cache_key(network, state, (8, 8, 16), ("1",)),
        cache_key(network, state, (8, 8, 8), ("2",)),
    }
    assert len(names) == 5
    assert cache_key(network, dict(reversed(state.items())), (8, 8, 8), ("1",)) in names


def test_the_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "orgseg" / "networks"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "orgseg" / "networks"
