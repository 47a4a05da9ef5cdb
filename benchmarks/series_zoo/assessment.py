"""How a reader dealt with a series, and by how many millimetres its voxels are displaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tests.support.ct.zoo import Floats, Stack

EXACT_MM = 0.05
"""Tolerance for other tools; rounding of a scanner's decimal strings and of float32 affines is smaller."""


class Outcome(StrEnum):
    """How a reader dealt with a series."""

    EXACT = "exact"
    PARTS = "parts"  # refused as a whole, each part or series of it exact
    REFUSED = "refused"
    WRONG = "SILENTLY WRONG"
    INCOMPLETE = "INCOMPLETE"  # positions are right, but slices are missing without an error
    CRASHED = "crashed"  # the process died or hung


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The assessment of one reader on one series.

    Attributes
    ----------
    outcome : how it dealt with the series
    code : of the refusal
    error_mm : largest displacement of a voxel
    note : description of what is wrong
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
class ReadVolume:
    """A volume as a reader returns it.

    Attributes
    ----------
    hu : (K, J, I)
    affine : (4, 4) from voxel indices ``(i, j, k, 1)`` to LPS mm
    """

    hu: NDArray[np.generic]
    affine: Floats

    @property
    def points_mm(self) -> Floats:
        """(K, J, I, 3) positions of the voxels according to the reader, LPS mm."""
        k, j, i = np.indices(self.hu.shape)
        points: Floats = np.stack([i, j, k], axis=-1) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return points


def displacement_mm(hu: NDArray[np.generic], points_mm: Floats, stack: Stack, slack_hu: float) -> float:
    """Lower bound of the largest distance between the true and the reported position of a voxel.

    Parameters
    ----------
    hu : (...) HU that the reader returned
    points_mm : (..., 3) their positions according to the reader, LPS
    stack : the true slices
    slack_hu : tolerance: half the step of the stored values, and the reader's rounding

    Returns
    -------
    mm; difference between the HU and the true field at that position, divided by the gradient of the field
    """
    if stack.field is None:
        return 0.0
    excess = np.abs(np.asarray(hu, dtype=np.float64) - np.maximum(stack.field.hu(points_mm), -1024.0))
    excess = excess - slack_hu
    # a pixel on the border of the field of view may be inside or outside
    excess[stack.field.is_padding(points_mm, near_mm=0.1)] = 0.0
    wrong = excess > 0
    if not wrong.any():
        return 0.0
    return float((excess[wrong] / stack.field.slope(points_mm[wrong])).max())


def assess_volumes(volumes: Sequence[ReadVolume], stacks: Sequence[Stack]) -> Assessment:
    """The assessment of the volumes that a tool read from a folder: each must be one of the true stacks."""
    worst, fewest = 0.0, np.inf
    volumes = [volume for volume in volumes if volume.hu.shape[0] > 1]  # a localizer is not a volume
    if not volumes:
        return Assessment(outcome=Outcome.REFUSED, code="no volume")
    for volume in volumes:
        points = volume.points_mm
        # half a step of the stored values, and rounding to 1 HU by the tool
        errors = [displacement_mm(volume.hu, points, s, 0.5 * s.quantum_hu + 0.5) for s in stacks]
        nearest = int(np.argmin(errors))
        worst = max(worst, errors[nearest])
        fewest = min(fewest, volume.hu.shape[0] - len(stacks[nearest].planes))
    if worst > EXACT_MM:
        return Assessment(outcome=Outcome.WRONG, error_mm=worst)
    if fewest < 0:
        return Assessment(outcome=Outcome.INCOMPLETE, code=f"{-int(fewest)} slices fewer")
    return Assessment(outcome=Outcome.EXACT, error_mm=worst)
