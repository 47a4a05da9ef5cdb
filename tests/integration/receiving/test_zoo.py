"""Every awkward series of the zoo: exact to the pixel, or refused with the right code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.series_zoo.assess_node import assess_node
from benchmarks.series_zoo.assessment import Outcome, ReadVolume, assess_volumes
from benchmarks.series_zoo.case import ZooCase
from benchmarks.series_zoo.catalogue import ZOO
from orgseg_node.core.organs import OrganTable
from tests.support.ct.zoo import Plane, Scan, Stack, write

pytestmark = pytest.mark.endurance


@pytest.mark.parametrize("case", ZOO, ids=lambda case: case.name)
def test_a_series_is_exact_or_refused_with_the_right_code(
    case: ZooCase, tmp_path: Path, organ_table: OrganTable
) -> None:
    assessment = assess_node(tmp_path / "ct", case.build(tmp_path / "ct"), organ_table["liver"])
    assert case.is_as_expected(assessment), f"{assessment} {assessment.note}, not {case.expected}"


def test_the_zoo_is_large_and_its_names_are_its_own() -> None:
    assert len({case.name for case in ZOO}) == len(ZOO) >= 100
    assert {case.outcome for case in ZOO} == {Outcome.EXACT, Outcome.PARTS, Outcome.REFUSED}
    assert all(case.codes for case in ZOO if case.outcome is not Outcome.EXACT)


def _moved(plane: Plane) -> Plane:
    return replace(plane, position_mm=plane.position_mm + np.array([0.0, 0.02, 0.0]))


def _other_pixel(plane: Plane) -> Plane:
    hu = plane.hu.copy()
    hu[3, 4] += 1
    return replace(plane, hu=hu)


@pytest.mark.parametrize("change", [_moved, _other_pixel])
def test_the_judge_sees_one_plane_moved_by_20_micrometres_and_one_wrong_pixel(
    change: Callable[[Plane], Plane], tmp_path: Path, organ_table: OrganTable
) -> None:
    stack = write(tmp_path, Scan())
    planes = (*stack.planes[:9], change(stack.planes[9]), *stack.planes[10:])
    assessment = assess_node(tmp_path, [replace(stack, planes=planes)], organ_table["liver"])
    assert assessment.outcome is Outcome.WRONG


def test_the_judge_sees_a_slice_that_is_left_out(tmp_path: Path, organ_table: OrganTable) -> None:
    stack = write(tmp_path, Scan())
    min(tmp_path.iterdir()).unlink()
    assert assess_node(tmp_path, [stack], organ_table["liver"]).outcome is Outcome.WRONG


def _volume(stack: Stack, shift_mm: tuple[float, float, float]) -> ReadVolume:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = stack.planes[0].position_mm + np.asarray(shift_mm)
    return ReadVolume(hu=np.array([plane.hu for plane in stack.planes]), affine=affine)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_rivals_picture_that_is_moved_shows_by_how_much(tmp_path: Path, axis: int) -> None:
    stack = write(tmp_path, Scan())
    assert assess_volumes([_volume(stack, (0, 0, 0))], [stack]).outcome is Outcome.EXACT
    shift = np.eye(3)[axis]
    assessment = assess_volumes([_volume(stack, (shift[0], shift[1], shift[2]))], [stack])
    assert assessment.outcome is Outcome.WRONG
    assert 0.3 < assessment.error_mm < 1.2
