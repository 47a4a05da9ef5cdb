"""What became of a series, and by how many millimetres a picture lies wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tests.support.ct.zoo import Floats, Stack

EXACT_MM = 0.05
"""What a rival may be off; the grid of a scanner's decimal strings and of float32 affines lies below."""


class Outcome(StrEnum):
    """How a reader dealt with a series."""

    EXACT = "exact"
    PARTS = "parts"  # refused as a whole, each part or series of it exact
    REFUSED = "refused"
    WRONG = "SILENTLY WRONG"
    INCOMPLETE = "INCOMPLETE"  # right where it is, but slices are missing without a word
    CRASHED = "crashed"  # the process died or hung


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement on one reader and one series.

    Attributes
    ----------
    outcome : what it did
    code : why it refused
    error_mm : by how much the worst place is wrong
    note : what is wrong, for people
    """

    outcome: Outcome
    code: str = ""
    error_mm: float = 0.0
    note: str = ""

    def __str__(self) -> str:
        """One cell of the table."""
        match self.outcome:
            case Outcome.WRONG:
                return f"{self.outcome} " + (f"{self.error_mm:.2f} mm" if self.error_mm < 1000 else "> 1 m")
            case Outcome.REFUSED | Outcome.PARTS | Outcome.INCOMPLETE:
                return f"{self.outcome} {self.code.removeprefix('INPUT_')}".strip()
            case _:
                return str(self.outcome)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A volume as a reader gives it.

    Attributes
    ----------
    hu : (K, J, I)
    affine : (4, 4) from ``(i, j, k, 1)`` to LPS mm
    """

    hu: NDArray[np.generic]
    affine: Floats

    @property
    def points_mm(self) -> Floats:
        """(K, J, I, 3) places that the reader claims for its voxels, LPS."""
        k, j, i = np.indices(self.hu.shape)
        points: Floats = np.stack([i, j, k], axis=-1) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return points


def displacement_mm(hu: NDArray[np.generic], points_mm: Floats, stack: Stack, slack_hu: float) -> float:
    """How far at least the worst voxel is from where a reader says it is.

    Parameters
    ----------
    hu : what the reader found
    points_mm : (..., 3) where it says it found them
    stack : what is true
    slack_hu : half the step of the stored values, and what the reader rounds away

    Returns
    -------
    the excess of the HU over the field there, divided by the steepness of the field
    """
    if stack.field is None:
        return 0.0
    excess = np.abs(np.asarray(hu, dtype=np.float64) - np.maximum(stack.field.hu(points_mm), -1024.0))
    excess = excess - slack_hu
    # a pixel on the rim of what is shown may be drawn on either side of it
    excess[stack.field.is_padding(points_mm, near_mm=0.1)] = 0.0
    wrong = excess > 0
    if not wrong.any():
        return 0.0
    return float((excess[wrong] / stack.field.slope(points_mm[wrong])).max())


def judge_pictures(pictures: Sequence[Picture], stacks: Sequence[Stack]) -> Verdict:
    """The judgement on the volumes a rival made of a folder: each must be one of the true stacks."""
    worst, fewest = 0.0, np.inf
    volumes = [picture for picture in pictures if picture.hu.shape[0] > 1]  # a scout is not meant as a volume
    if not volumes:
        return Verdict(outcome=Outcome.REFUSED, code="no volume")
    for picture in volumes:
        points = picture.points_mm
        # half a step of what is stored, and one HU that the rival may round
        errors = [displacement_mm(picture.hu, points, s, 0.5 * s.quantum_hu + 0.5) for s in stacks]
        nearest = int(np.argmin(errors))
        worst = max(worst, errors[nearest])
        fewest = min(fewest, picture.hu.shape[0] - len(stacks[nearest].planes))
    if worst > EXACT_MM:
        return Verdict(outcome=Outcome.WRONG, error_mm=worst)
    if fewest < 0:
        return Verdict(outcome=Outcome.INCOMPLETE, code=f"{-int(fewest)} slices fewer")
    return Verdict(outcome=Outcome.EXACT, error_mm=worst)
