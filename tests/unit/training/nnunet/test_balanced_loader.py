"""Forced patches: every organ has the same chance, and each lies around a voxel of its organ."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from orgseg_training.nnunet.balanced_loader import BalancedLoader

SIZE = 24


class _Scans:
    """Twenty scans with organ 1; organ 2 is drawn in the last one only."""

    identifiers: ClassVar = [f"scan{number:02}" for number in range(20)]

    def load_case(self, key: str) -> Any:
        seg = np.zeros((1, SIZE, SIZE, SIZE), np.int16)
        seg[0, 4, 4, 4] = 1
        if key == "scan19":
            seg[0, 20, 20, 20] = 2
        locations = {number: np.argwhere(seg == number) for number in (1, 2)}
        return np.zeros(seg.shape, np.float32), seg, None, {"class_locations": locations}


def _loader(drawn: dict[str, list[int]], **options: Any) -> BalancedLoader:
    labels = SimpleNamespace(all_labels=[0, 1, 2], has_ignore_label=False)
    return BalancedLoader(
        _Scans(),
        2,
        (8, 8, 8),
        (8, 8, 8),
        labels,
        drawn=drawn,
        oversample_foreground_percent=0.5,
        **options,
    )


def test_a_rare_organ_gets_as_many_forced_patches_as_a_common_one() -> None:
    np.random.seed(1)  # noqa: NPY002 - the generator of nnU-Net
    loader = _loader({key: [1, 2] if key == "scan19" else [1] for key in _Scans.identifiers})
    seen: Counter[int] = Counter()
    for _ in range(200):
        batch = next(loader)
        forced = batch["target"][1]
        seen.update(int(number) for number in forced.unique() if number)
        assert int(forced.max()) > 0
    assert 70 <= seen[2] <= 130  # nnU-Net's own way: about 5


def test_the_other_patches_are_of_any_scan() -> None:
    np.random.seed(2)  # noqa: NPY002 - the generator of nnU-Net
    loader = _loader({"scan19": [2]})
    keys = [next(loader)["keys"] for _ in range(60)]
    assert {forced for _, forced in keys} == {"scan19"}
    assert len({free for free, _ in keys}) > 10


def test_scans_without_organs_are_still_used() -> None:
    loader = _loader({})
    assert next(loader)["target"].shape == (2, 1, 8, 8, 8)


def test_scans_of_other_regions_get_their_share_of_the_patches_that_are_not_forced() -> None:
    np.random.seed(3)  # noqa: NPY002 - the generator of nnU-Net
    drawn = {key: [1] for key in _Scans.identifiers[1:]}
    loader = _loader(drawn, undrawn=["scan00"], undrawn_share=0.4)
    keys = [next(loader)["keys"] for _ in range(200)]
    assert 60 <= sum(free == "scan00" for free, _ in keys) <= 100, "without a share: about 10"
    assert all(forced != "scan00" for _, forced in keys)
