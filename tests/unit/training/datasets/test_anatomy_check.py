"""A body is as it should be; mirrored, upside down, back to front or with exchanged organs it is not."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.anatomy import relative_position
from orgseg_node.core.checks import Level
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import PAIRS, OrganTable
from orgseg_training.datasets.anatomy_check import anatomy_findings
from tests.support.ct.body_of_boxes import GRID, organ_masks


def _codes(masks: dict[str, np.ndarray], grid: Grid = GRID) -> set[str]:
    return {finding.code for finding in anatomy_findings(masks, grid)}


def test_nothing_is_said_of_a_body() -> None:
    assert anatomy_findings(organ_masks(), GRID) == ()


def test_every_organ_of_the_rules_is_in_the_table(organ_table: OrganTable) -> None:
    named = {
        organ
        for pair in (*relative_position.RIGHT_OF, *relative_position.ABOVE, *relative_position.BEFORE)
        for organ in pair
    }
    assert named | set(PAIRS) | {side for pair in PAIRS.values() for side in pair} <= set(organ_table)


@pytest.mark.parametrize(("axis", "code"), [(2, "ANATOMY_SIDE"), (0, "ANATOMY_ORDER"), (1, "ANATOMY_FRONT")])
def test_a_mirrored_body_is_seen(axis: int, code: str) -> None:
    mirrored = {organ: np.flip(mask, axis) for organ, mask in organ_masks().items()}
    assert code in _codes(mirrored)


def test_places_are_judged_in_the_patient_whatever_way_the_axes_run() -> None:
    """Feet first and prone: the array is turned, and so are its axes; nothing is wrong with the patient."""
    k, j, i = (n - 1 for n in GRID.shape)
    x, y, z = GRID.to_lps([(k, j, i)])[0]
    turned = Grid(
        shape=GRID.shape,
        spacing_mm=GRID.spacing_mm,
        origin_mm=(float(x), float(y), float(z)),
        axes=((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0)),
    )
    masks = {organ: np.flip(mask, (0, 1, 2)) for organ, mask in organ_masks().items()}
    assert _codes(masks, turned) == set()
    assert {"ANATOMY_SIDE", "ANATOMY_ORDER"} <= _codes(organ_masks(), turned)


_SIDED = {both: pair for both, pair in PAIRS.items() if both not in relative_position.MOBILE}


@pytest.mark.parametrize("pair", list(_SIDED.values()), ids=list(_SIDED))
def test_exchanged_sides_are_seen(pair: tuple[str, str]) -> None:
    masks = organ_masks()
    left, right = pair
    if left not in masks:
        masks = {left: masks["kidney_left"], right: masks["kidney_right"]}
    (finding,) = anatomy_findings({left: masks[right], right: masks[left]}, GRID)[:1]
    assert (finding.code, finding.level, finding.organ) == ("ANATOMY_SIDE", Level.ERROR, right)


def test_a_volume_that_no_patient_has_is_a_warning_and_a_cut_organ_may_be_small() -> None:
    one = np.zeros(GRID.shape, bool)
    one[40, 10, 20] = True
    (finding,) = anatomy_findings({"liver": one}, GRID)
    assert (finding.code, finding.level, round(finding.value or 0, 2)) == (
        "ANATOMY_VOLUME",
        Level.WARNING,
        0.64,
    )
    cut = np.zeros(GRID.shape, bool)
    cut[0, 10, 20] = True
    assert anatomy_findings({"liver": cut}, GRID) == ()
    assert _codes({"adrenal_gland_left": np.ones(GRID.shape, bool)}) == {"ANATOMY_VOLUME"}


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="liver"):
        anatomy_findings({"liver": np.ones((2, 2, 2), bool)}, GRID)
