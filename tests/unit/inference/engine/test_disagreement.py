"""How far folds differ, compared with numbers calculated by hand."""

from __future__ import annotations

import pytest
import torch

from orgseg_node.inference.engine.disagreement import FoldAgreement

_VOXEL_ML = 0.5


def _plane(labels: list[int], heads: int = 3) -> torch.Tensor:
    """Logits (heads, 1, 1, columns) in which these labels win."""
    logits = torch.zeros((heads, 1, 1, len(labels)), dtype=torch.half)
    for column, label in enumerate(labels):
        logits[label, 0, 0, column] = 5
    return logits


def test_dice_of_all_pairs_and_volumes_agree_with_a_calculation_by_hand() -> None:
    agreement = FoldAgreement(3, None, 3)
    for folds in (
        ([1, 1, 1, 0, 2, 2], [1, 1, 0, 0, 2, 0], [0, 1, 1, 1, 1, 0]),
        ([0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]),
    ):
        for labels in folds:
            agreement.add(_plane(labels))
    first = agreement.disagreement(1, "spleen", _VOXEL_ML)
    # folds find 4, 3 and 4 voxels of label 1; they share 3 (a, b), 2 (a, c) and 1 (b, c)
    assert first.mean_dice == pytest.approx((2 * 3 / 7 + 2 * 2 / 8 + 2 * 1 / 7) / 3)
    assert (first.volume_min_ml, first.volume_max_ml) == (1.5, 2.0)
    assert (first.organ, first.folds) == ("spleen", 3)
    second = agreement.disagreement(2, "liver", _VOXEL_ML)
    # 2, 1 and 0 voxels; a and b share 1
    assert second.mean_dice == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert (second.volume_min_ml, second.volume_max_ml) == (0.0, 1.0)


def test_folds_that_find_the_same_or_nothing_agree() -> None:
    agreement = FoldAgreement(4, None, 2)
    for _ in range(2):
        agreement.add(_plane([0, 1, 2, 0], heads=4))
    for label in (1, 2, 3):
        found = agreement.disagreement(label, "x", _VOXEL_ML)
        assert found.mean_dice == 1.0
        assert found.volume_min_ml == found.volume_max_ml == (0.0 if label == 3 else _VOXEL_ML)


def test_regions_count_as_the_labels_they_write() -> None:
    agreement = FoldAgreement(8, (7, 2), 2)
    for logits in ([[1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]], [[1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]]):
        agreement.add(torch.tensor(logits).half().view(2, 1, 1, 3))
    assert agreement.disagreement(7, "x", 1.0).mean_dice == 1.0
    assert agreement.disagreement(2, "x", 1.0).mean_dice == 0.0
    assert agreement.disagreement(2, "x", 1.0).volume_max_ml == 1.0
