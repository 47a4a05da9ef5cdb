"""What a bundle was trained on is part of the bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.errors import BundleHashMismatch, BundleInvalid
from orgseg_node.inference.bundles.bundle import open_bundle, verify_bundle
from orgseg_node.inference.bundles.training_cases import TrainingCase, add_training_cases, training_cases
from tests.support.models.bundles import write_bundle

CASES = {
    "parts/main": (
        TrainingCase(voxels_sha256="a" * 64, coarse_sha256="b" * 64, patient="p", held_out="0"),
        TrainingCase(voxels_sha256="c" * 64, coarse_sha256="d" * 64),
    )
}


def test_it_is_read_as_written_and_belongs_to_the_hash(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    assert training_cases(bundle) == {}
    added = add_training_cases(bundle, CASES)
    assert training_cases(added) == CASES
    assert added.sha256 != bundle.sha256
    verify_bundle(added)
    (added.path / "training_cases.json").write_text("{}")
    with pytest.raises(BundleHashMismatch):
        verify_bundle(added)
    with pytest.raises(BundleInvalid):
        training_cases(open_bundle(added.path))
