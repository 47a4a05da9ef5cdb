"""Labels are those of interpolating every logit, also where classes are nearly or exactly equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from numpy.typing import NDArray

from orgseg_node.core.geometry import Shape
from orgseg_node.inference.engine.label_planes import (
    AMBIGUOUS,
    LabelPlanes,
    argmax_labels,
    unambiguous_labels,
)
from orgseg_node.inference.engine.resampling import Resampling
from orgseg_node.inference.engine.working import Regrid

_CPU = torch.device("cpu")
_GRIDS = [
    ((6, 7, 8), (9, 12, 10), None),
    ((9, 12, 10), (6, 7, 8), None),
    ((6, 7, 8), (6, 12, 8), None),
    ((6, 7, 8), (6, 7, 8), None),
    ((5, 7, 8), (11, 9, 10), 0),
    ((5, 7, 8), (5, 9, 10), 0),
    ((6, 7, 8), (9, 12, 10), 1),
    ((6, 7, 8), (9, 4, 17), 2),
    ((1, 7, 8), (4, 9, 1), None),
]


def _logits(kind: str, heads: int, shape: Shape) -> NDArray[np.float16]:
    """Float16 logits that are hard to distinguish."""
    rng = np.random.default_rng(heads)
    drawn = rng.normal(size=(heads, *shape))
    if kind == "ties":
        drawn = rng.integers(-2, 3, drawn.shape) / 2
    elif kind == "near":  # one to three steps of 16 bits apart
        drawn = drawn[:1] + rng.integers(-3, 4, drawn.shape) * 2.0**-11
    elif kind == "tiny":  # steps of the smallest number above 0
        drawn = rng.integers(-3, 4, drawn.shape) * 2.0**-24
    elif kind == "negative":
        drawn = -100 - rng.integers(0, 3, drawn.shape) / 16
    elif kind == "large":
        drawn = drawn * 9_000
    return np.asarray(drawn).astype(np.float16)


def _ours(
    logits: NDArray[np.float16], regrid: Regrid, regions: tuple[int, ...] | None, block: int = 1
) -> NDArray[np.uint16]:
    planes = LabelPlanes(regrid, regions, _CPU)
    found = []
    for first in range(0, logits.shape[1], block):
        some = torch.from_numpy(np.ascontiguousarray(logits[:, first : first + block]))
        found += list(planes.push(first, some))
    assert [k for k, _ in found] == list(range(regrid.target[0]))
    return np.stack([labels for _, labels in found])


def _theirs(
    logits: NDArray[np.float16], regrid: Regrid, regions: tuple[int, ...] | None
) -> NDArray[np.integer]:
    thick = regrid.thick_axis
    moved = resample_data_or_seg(
        logits, regrid.target, axis=thick, order=1, do_separate_z=thick is not None, order_z=0
    )
    heads = range(1, len(logits) + (regions is not None))
    labels = {"background": 0} | {str(n): [n, n + 1] if regions else n for n in heads}
    manager = LabelManager(labels, list(regions) if regions else None)
    return np.asarray(manager.convert_logits_to_segmentation(moved))


@pytest.mark.parametrize("kind", ["smooth", "ties", "near", "tiny", "negative", "large"])
@pytest.mark.parametrize(("source", "target", "thick"), _GRIDS)
def test_labels_are_those_of_interpolating_everything(
    source: Shape, target: Shape, thick: int | None, kind: str
) -> None:
    regrid = Regrid(source=source, target=target, thick_axis=thick)
    logits = _logits(kind, 4, source)
    for regions in (None, (1, 2, 3, 4), (4, 1, 3, 2), (1, 2, 1, 2)):
        expected = _theirs(logits, regrid, regions)
        for block in (1, 2, 4, 9):
            assert (_ours(logits, regrid, regions, block) == expected).all()


@pytest.mark.parametrize("kind", ["smooth", "ties", "near", "tiny", "negative", "large"])
@pytest.mark.parametrize(("source", "target", "thick"), _GRIDS)
def test_labels_by_torch_differ_only_where_logits_are_equal_but_for_the_last_bit(
    source: Shape, target: Shape, thick: int | None, kind: str
) -> None:
    logits = _logits(kind, 4, source)
    regrid = Regrid(source=source, target=target, thick_axis=thick, method=Resampling.TORCH)
    found = _ours(logits, regrid, None)
    assert (_ours(logits, regrid, None, block=4) == found).all()
    spacing = [5.0 if axis == thick else 1.0 for axis in range(3)]
    moved = resample_torch_fornnunet(torch.from_numpy(logits), target, spacing, [1.0] * 3).float().numpy()
    chosen = np.take_along_axis(moved, found[None].astype(np.int64), axis=0)[0]
    assert np.all(moved.max(axis=0) - chosen <= 1e-6 * np.abs(chosen) + 1e-12)
    if kind == "smooth":
        assert (found == moved.argmax(axis=0)).all()


def test_where_a_class_is_clearly_the_largest_nothing_is_interpolated() -> None:
    logits = np.zeros((3, 4, 6, 6), dtype=np.float16)
    logits[1] = 5
    logits[2, :, :, 3:] = 9
    planes = LabelPlanes(Regrid(source=(4, 6, 6), target=(8, 12, 12), thick_axis=None), None, _CPU)
    for number in (0, 2):
        list(planes.push(number, torch.from_numpy(np.ascontiguousarray(logits[:, number : number + 2]))))
    assert planes.interpolated == 8 * 12 * 2  # the two columns between both


def test_a_plane_is_returned_as_soon_as_possible_and_old_planes_are_removed() -> None:
    planes = LabelPlanes(Regrid(source=(6, 2, 2), target=(3, 2, 2), thick_axis=None), None, _CPU)
    plane = torch.ones((2, 1, 2, 2), dtype=torch.half)
    came, kept = [], []
    for number in range(6):
        came.append([k for k, _ in planes.push(number, plane)])
        kept.append(planes._before is not None)
    assert came == [[], [0], [], [1], [], [2]]
    assert kept == [True, False, True, False, True, False]


@pytest.mark.parametrize(
    ("best", "second"), [(1.0, 1.0), (1.0, 0.9990), (-1.0, -1.001), (0.0, 0.0), (0.0, -1e-7)]
)
def test_close_logits_are_ambiguous_and_the_argmax_is_still_found(best: float, second: float) -> None:
    plane = torch.tensor([-5.0, best, second]).half().view(3, 1, 1)
    assert unambiguous_labels(plane, None).item() == AMBIGUOUS
    assert argmax_labels(plane, None).item() == 1


def test_the_argmax_of_equal_logits_is_the_first() -> None:
    plane = torch.zeros((4, 200, 300), dtype=torch.half)
    plane[2:] = 1
    assert (argmax_labels(plane, None) == 2).all()


def test_unambiguous_labels_are_right_everywhere_in_a_large_plane() -> None:
    plane = torch.randn((5, 300, 211), generator=torch.Generator().manual_seed(2)).mul(50).half()
    found = unambiguous_labels(plane, None)
    clear = found != AMBIGUOUS
    assert clear.float().mean() > 0.9
    assert (found[clear] == plane.float().argmax(0)[clear]).all()


def test_nan_logits_are_ambiguous() -> None:
    plane = torch.full((3, 1, 2), torch.nan).half()
    plane[:2] = 3.0
    plane[0, 0, 1] = torch.nan
    assert (unambiguous_labels(plane, None) == AMBIGUOUS).all()
    assert (unambiguous_labels(plane, (1, 2, 3)) == AMBIGUOUS).all()


def test_regions_near_zero_are_ambiguous_and_later_regions_overwrite_earlier_ones() -> None:
    plane = torch.tensor([[2.0, -2.0, 2.0, 2.0], [2.0, -2.0, -2.0, 5e-4]]).half().view(2, 1, 4)
    assert unambiguous_labels(plane, (7, 5)).tolist() == [[5, 0, 7, AMBIGUOUS]]
    assert argmax_labels(plane, (7, 5)).tolist() == [[5, 0, 7, 5]]


def test_a_label_of_two_regions_is_always_ambiguous() -> None:
    plane = torch.tensor([[2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]]).half().view(3, 1, 2)
    assert unambiguous_labels(plane, (1, 1, 2)).tolist() == [[AMBIGUOUS, AMBIGUOUS]]
    assert unambiguous_labels(plane, (1, 3, 2)).tolist() == [[1, 3]]
