"""The network of the benchmark is kept between runs; one that was spoilt is made anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.inference.model import _kept_weights


def test_weights_that_are_not_finite_are_not_used_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.pt"
    assert _kept_weights(path) is None
    torch.save({"weight": torch.ones(3)}, path)
    kept = _kept_weights(path)
    assert kept is not None
    assert torch.equal(kept["weight"], torch.ones(3))
    torch.save({"weight": torch.tensor([1.0, float("nan")])}, path)
    assert _kept_weights(path) is None
    assert not path.exists()
    assert "trained again" in capsys.readouterr().out
