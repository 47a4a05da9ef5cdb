"""Which volumes can be an organ: limits so wide that only what is impossible falls outside."""

from __future__ import annotations

import pytest

from orgseg_node.core.anatomy.possible import is_crumb, is_possible_volume


@pytest.mark.parametrize(
    ("ml", "volume_ml", "expected"),
    [
        (0.04, (0.5, 250.0), (True, False)),  # an oesophagus
        (0.5, (0.5, 250.0), (False, True)),
        (300.0, (0.5, 250.0), (False, False)),
        (2.4, (10.0, 80.0), (True, False)),  # a scan may end inside an organ: a quarter of it counts
        (2.5, (10.0, 80.0), (False, True)),
        (0.2, (0.025, 1.0), (False, True)),  # a lens is smaller than a crumb of other organs
        (0.02, (0.025, 1.0), (True, False)),
        (0.4, None, (True, False)),
        (0.6, None, (False, True)),
        (0.0, (0.025, 1.0), (True, False)),
    ],
)
def test_a_volume_can_be_an_organ_or_is_a_crumb(
    ml: float, volume_ml: tuple[float, float] | None, expected: tuple[bool, bool]
) -> None:
    assert (is_crumb(ml, volume_ml), is_possible_volume(ml, volume_ml)) == expected
