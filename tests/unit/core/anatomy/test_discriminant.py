"""What distinguishes faulty contours from correct ones."""

from __future__ import annotations

import numpy as np

from orgseg_node.core.anatomy.discriminant import Discriminant


def test_it_weighs_what_faults_change_and_sees_changes_to_either_side() -> None:
    rng = np.random.default_rng(1)
    correct, faulty = rng.normal(size=(60, 4)), rng.normal(size=(300, 4))
    faulty[:, 0] += 2.5  # always to the same side
    faulty[:, 1] += rng.choice((-4.0, 4.0), 300)
    faulty[:20, 2] = np.nan
    found = Discriminant.fit(correct, faulty)
    typical, known = np.zeros(4), np.array([0.0, np.nan, 0.0, 0.0])
    assert (
        found.value(np.array([3.0, 0, 0, 0])) > found.value(typical) > found.value(np.array([-3.0, 0, 0, 0]))
    )
    assert min(found.value(np.array([0, side, 0, 0])) for side in (-4.0, 4.0)) > found.value(typical)
    assert abs(found.signed[3]) < 0.2 * found.signed[0]
    assert np.isfinite(found.value(known))
    assert np.isfinite(found.value(np.full(4, np.nan)))


def test_it_is_the_same_after_storage() -> None:
    rng = np.random.default_rng(2)
    found = Discriminant.fit(rng.normal(size=(30, 3)), rng.normal(2, 1, size=(30, 3)))
    again = Discriminant.from_dict(found.as_dict(), 3)
    assert again.as_dict() == found.as_dict()
