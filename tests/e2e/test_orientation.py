"""``orgseg models orientation`` on a bundle whose answer cannot be clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.inference.bundles.bundle import open_bundle, verify_bundle
from tests.support.node.command_line import orgseg

pytestmark = pytest.mark.endurance


def test_an_orientation_that_is_not_clear_is_not_written(
    capsys: pytest.CaptureFixture[str], with_bundles: Path, ct: Path
) -> None:
    before = open_bundle(with_bundles / "tiny")
    answer = orgseg(capsys, "models", "orientation", "tiny", ct, "--keep")
    assert answer.status == 1
    assert "not clear" in answer.out
    assert "pairs right" in answer.out
    after = open_bundle(with_bundles / "tiny")
    assert after.sha256 == before.sha256
    verify_bundle(after)
