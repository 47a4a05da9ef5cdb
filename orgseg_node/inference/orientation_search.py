"""Which orientation a network was trained on, found by what it finds in a CT.

nnU-Net keeps no patient axes. Given an array in another orientation than that of its training, a network
finds less, or organs on the wrong side of each other. So the network is run on a reference CT in every
orientation, and each result is judged by anatomy: how many organs have a possible volume, and how many pairs
of organs lie to each other as in every body (sides, from head to feet, front and back).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Final

from orgseg_node.core.anatomy.possible import POSITION_MARGIN_MM, organ_centres, possible_organs
from orgseg_node.core.anatomy.relative_position import relative_position_conflicts
from orgseg_node.core.volume import LabelMap

ORIENTATIONS: Final = tuple("".join(p) for axes in permutations(("LR", "PA", "SI")) for p in product(*axes))
"""All 48: each order of the axes, and each direction of each axis."""

_CLEAR: Final = 2  # points between the best and the next orientation


@dataclass(frozen=True, slots=True, kw_only=True)
class OrientationScore:
    """What a network found in one orientation.

    Attributes
    ----------
    orientation : such as ``LPS``
    organs : number of organs with a possible volume
    right, wrong : number of pairs of organs that lie to each other as in every body, and the opposite
    """

    orientation: str
    organs: int
    right: int
    wrong: int

    @property
    def points(self) -> int:
        """Higher is likelier."""
        return self.organs + self.right - 2 * self.wrong

    @property
    def sentence(self) -> str:
        """The score for people."""
        return f"{self.organs} organs, {self.right} pairs right and {self.wrong} wrong"


def search_orientation(
    run: Callable[[str], LabelMap],
    on_score: Callable[[OrientationScore], None] = lambda _: None,
    orientations: Sequence[str] = ORIENTATIONS,
) -> tuple[OrientationScore, ...]:
    """Run a network in every orientation; the likeliest first.

    Parameters
    ----------
    run : the organs of the reference CT for an orientation
    on_score : called after each orientation
    orientations : that may be
    """
    scores = []
    for orientation in orientations:
        scores.append(score_orientation(orientation, run(orientation)))
        on_score(scores[-1])
    return tuple(sorted(scores, key=lambda score: -score.points))


def clear_orientation(scores: Sequence[OrientationScore]) -> str | None:
    """The orientation of sorted scores; None if anatomy contradicts it, or if another is nearly as likely."""
    best, *others = scores
    if best.wrong or not best.right:
        return None
    if others and best.points - others[0].points < _CLEAR:
        return None
    return best.orientation


def score_orientation(orientation: str, found: LabelMap) -> OrientationScore:
    """Judge the organs that a network found in one orientation.

    Parameters
    ----------
    orientation : that the network was given
    found : its result on the grid of the CT
    """
    possible = possible_organs(found)
    centres = organ_centres(found, possible)
    opposite = {key: -centre for key, centre in centres.items()}
    return OrientationScore(
        orientation=orientation,
        organs=len(possible),
        right=_count(relative_position_conflicts(opposite, POSITION_MARGIN_MM)),
        wrong=_count(relative_position_conflicts(centres, POSITION_MARGIN_MM)),
    )


def _count(conflicts: Iterable[object]) -> int:
    return sum(1 for _ in conflicts)
