"""Mirrored patches: sides are exchanged in every label, also in those of unknown organs."""

from __future__ import annotations

import torch

from orgseg_training.nnunet.mirrored_sides import SideExchange
from orgseg_training.nnunet.sides import other_sides

ORGANS = ["brainstem", "parotid_right", "parotid_left"]


def test_the_other_side_of_each_organ() -> None:
    assert other_sides(ORGANS) == [1, 3, 2]
    assert other_sides(["kidney_left", "kidney_right", "liver"]) == [2, 1, 3]


def test_without_its_partner_an_organ_cannot_be_mirrored() -> None:
    assert other_sides(["brainstem", "parotid_right"]) is None


def test_image_and_labels_are_mirrored_along_the_axis() -> None:
    sides = SideExchange([1, 3, 2], [], axis=2)
    image = torch.arange(8.0).reshape(1, 1, 2, 4)
    target = torch.tensor([[0, 1, 2, 3], [2, 2, 0, 0]], dtype=torch.int16).reshape(1, 1, 2, 4)
    half = torch.tensor([2, 0], dtype=torch.int16).reshape(1, 1, 1, 2)
    sides.apply(image, [target, half])
    assert image[0, 0, 0].tolist() == [3, 2, 1, 0]
    assert target[0, 0].tolist() == [[2, 3, 1, 0], [0, 0, 3, 3]]
    assert half[0, 0].tolist() == [[0, 3]]
    assert target.dtype == torch.int16


def test_what_is_unknown_on_the_right_is_unknown_on_the_left() -> None:
    sides = SideExchange([1, 3, 2], [[2], [1, 2, 3]], axis=0)
    assert sides.unknown_sets == [[2], [1, 2, 3], [3]]
    target = torch.tensor([4, 5, 6, 0]).reshape(1, 4, 1, 1)
    sides.apply(torch.zeros(1, 4, 1, 1), [target])
    assert target.flatten().tolist() == [0, 4, 5, 6]  # the set of 1, 2, 3 is its own mirror image


def test_twice_mirrored_is_as_before() -> None:
    sides = SideExchange([1, 3, 2], [[2, 1]], axis=2)
    target = torch.randint(0, 6, (1, 3, 4, 5))
    before = target.clone()
    image = torch.rand(1, 3, 4, 5)
    for _ in range(2):
        sides.apply(image, [target])
    assert torch.equal(target, before)
