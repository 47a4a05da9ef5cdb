"""Where an organ lies relative to the others: the joint distribution of the points of all organs.

The points (`ANCHORS`) of an organ are predicted from those of the others; what remains is the deviation.
The position of the patient in the scan does not matter. So that one wrong organ does not make its
neighbours wrong, the prediction is repeated without each of them, and the smallest deviation counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.anatomy.measures import ANCHORS
from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.volume import Mask

IntArray = NDArray[np.intp]

_AXES: Final = 3
_LETTERS: Final = "zyx"
_WIDTH: Final = len(ANCHORS) * _AXES  # values of one organ
_FREE_MM: Final = 2000.0  # the position of the patient in the scan: any
_PRIOR: Final = 6.0  # weight of the prior in samples
_FEWEST: Final = 8
_ROUNDS: Final = 25
_KEPT: Final = 256  # predictions that are kept to be used again
_LEAST_MM: Final = 1.5  # smallest standard deviation of a point

Anchors = Mapping[str, Mapping[str, tuple[float, float, float]]]
"""z, y and x in mm of the points of each organ, by its key and the name of the point."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deviation:
    """How far an organ is from where the others predict it.

    Attributes
    ----------
    distance : Mahalanobis distance per root of the number of values: about 1 for a typical patient
    offset_mm, sigma_mm : deviation and standard deviation of the prediction, by names such as ``centre_z``
    """

    distance: float
    offset_mm: Mapping[str, float]
    sigma_mm: Mapping[str, float]

    @property
    def in_sigma(self) -> dict[str, float]:
        """Deviation in standard deviations, by names such as ``relation_centre_z``."""
        return {f"relation_{name}": mm / self.sigma_mm[name] for name, mm in self.offset_mm.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placement:
    """The joint distribution of the points of organs.

    Attributes
    ----------
    organs : keys
    centre_mm : (9 O,) mean of the z, y and x of the points of each organ, up to a common shift
    covariance_mm2 : (9 O, 9 O) after the common shift of each patient was removed
    seen : (9 O,) bool, values that were known often enough
    """

    organs: tuple[str, ...]
    centre_mm: FloatArray
    covariance_mm2: FloatArray
    seen: Mask
    _predictions: dict[bytes, tuple[FloatArray, FloatArray]] = field(
        default_factory=dict, init=False, repr=False
    )

    @classmethod
    def fit(cls, organs: Sequence[str], samples: Sequence[Anchors]) -> Placement:
        """The distribution over patients.

        Parameters
        ----------
        organs : keys of the organs, also of those that are not in every sample
        samples : the points of the organs of each patient
        """
        points = np.array([_vector(organs, sample) for sample in samples]).reshape(len(samples), -1)
        seen = np.isfinite(points).sum(axis=0) >= _FEWEST
        points[:, ~seen] = np.nan
        points, centre = _aligned(points)
        covariance = np.eye(points.shape[1])
        if seen.any():
            covariance[np.ix_(seen, seen)], centre[seen] = _covariance(points[:, seen])
        return cls(
            organs=tuple(organs), centre_mm=np.where(seen, centre, 0.0), covariance_mm2=covariance, seen=seen
        )

    def deviation(self, organ: str, found: Anchors, *, trusted: bool = False) -> Deviation | None:
        """How far an organ is from where the others predict it; None if that cannot be said.

        Parameters
        ----------
        organ : its key
        found : the points of all organs of a patient
        trusted : the other organs are known to be correct, so that none of them is left out
        """
        if organ not in self.organs:
            return None
        values = _vector(self.organs, found) - self.centre_mm
        values[~self.seen] = np.nan
        known = np.isfinite(values)
        owner = np.repeat(np.arange(len(self.organs)), _WIDTH)
        own = known & (owner == self.organs.index(organ))
        others = [n for n in np.unique(owner[known]) if n != self.organs.index(organ)]
        if not own.any() or not others:
            return None
        left_out = [None, *others] if len(others) > 1 and not trusted else [None]
        ways = [self._conditional(values, own, known & ~own & (owner != out)) for out in left_out]
        return min(ways, key=lambda way: way.distance)

    def expected_mm(self, organ: str, found: Anchors) -> tuple[float, float, float] | None:
        """Where an organ that was not found should be: height of its centre, and its scatter.

        Parameters
        ----------
        organ : its key
        found : the points of the organs that were found

        Returns
        -------
        height above the first slice, its standard deviation, and half of the usual length, in mm; None if it
        cannot be said
        """
        if organ not in self.organs:
            return None
        number = self.organs.index(organ)
        height = {name: number * _WIDTH + n * _AXES for n, name in enumerate(ANCHORS)}
        if not self.seen[height["centre"]]:
            return None
        values = _vector(self.organs, found) - self.centre_mm
        values[~self.seen] = np.nan
        owner = np.repeat(np.arange(len(self.organs)), _WIDTH)
        given = np.isfinite(values) & (owner != number)
        if not given.any():
            return None
        own = np.arange(values.size) == height["centre"]
        values[own] = 0.0  # so that the deviation is what must be subtracted
        away = self._conditional(values, own, given)
        length = float(self.centre_mm[height["upper"]] - self.centre_mm[height["lower"]])
        centre = float(self.centre_mm[height["centre"]]) - away.offset_mm["centre_z"]
        return centre, away.sigma_mm["centre_z"], max(length, 0.0) / 2

    def _conditional(self, values: FloatArray, own: Mask, given: Mask) -> Deviation:
        own_n, given_n = np.flatnonzero(own), np.flatnonzero(given)
        pattern = own.tobytes() + given.tobytes()
        prediction = self._predictions.get(pattern)  # the faults of an organ have the same values known
        if prediction is None:
            if len(self._predictions) >= _KEPT:
                self._predictions.clear()
            prediction = self._predictions[pattern] = self._prediction(own_n, given_n)
        gain, spread = prediction
        rest = values[own_n] - gain @ values[given_n]
        squared = float(rest @ np.linalg.solve(spread, rest))
        names = [f"{ANCHORS[n % _WIDTH // _AXES]}_{_LETTERS[n % _AXES]}" for n in own_n]
        return Deviation(
            distance=float(np.sqrt(max(squared, 0.0) / own_n.size)),
            offset_mm=dict(zip(names, rest.tolist(), strict=True)),
            sigma_mm=dict(zip(names, np.sqrt(np.diag(spread)).tolist(), strict=True)),
        )

    def _prediction(self, own_n: IntArray, given_n: IntArray) -> tuple[FloatArray, FloatArray]:
        """How values follow from others: what each contributes, and the covariance that remains."""
        axis = np.arange(self.centre_mm.size) % _AXES
        whole = self.covariance_mm2 + _FREE_MM**2 * (axis[:, None] == axis)
        gain = np.linalg.solve(whole[np.ix_(given_n, given_n)], whole[np.ix_(given_n, own_n)]).T
        spread = whole[np.ix_(own_n, own_n)] - gain @ whole[np.ix_(given_n, own_n)]
        return gain, (spread + spread.T) / 2 + _LEAST_MM**2 * np.eye(own_n.size)

    def as_dict(self) -> dict[str, Any]:
        """As plain lists; the covariance as the rows of its lower triangle."""
        size = self.centre_mm.size
        rows = [[float(f"{v:.5g}") for v in self.covariance_mm2[n, : n + 1]] for n in range(size)]
        return {
            "organs": list(self.organs),
            "points": list(ANCHORS),
            "centre_mm": [round(float(v), 3) for v in self.centre_mm],
            "seen": [bool(v) for v in self.seen],
            "covariance_mm2": rows,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Placement:
        """From `as_dict`. Raises KeyError, TypeError or ValueError if it is something else."""
        size = len(document["organs"]) * _WIDTH
        if document["points"] != list(ANCHORS):
            raise ValueError(f"points must be {', '.join(ANCHORS)}")
        covariance = np.zeros((size, size))
        for n, row in enumerate(document["covariance_mm2"]):
            covariance[n, : n + 1] = covariance[: n + 1, n] = row
        return cls(
            organs=tuple(map(str, document["organs"])),
            centre_mm=np.array(document["centre_mm"], dtype=np.float64).reshape(size),
            covariance_mm2=covariance,
            seen=np.array(document["seen"], dtype=bool).reshape(size),
        )


def _vector(organs: Sequence[str], found: Anchors) -> FloatArray:
    nothing = dict.fromkeys(ANCHORS, (np.nan,) * _AXES)
    return np.array([found.get(key, nothing)[name] for key in organs for name in ANCHORS]).ravel()


def _aligned(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Points of all patients without the position of each patient in the scan, and their centre."""
    axis = np.arange(points.shape[1]) % _AXES
    points = points.copy()
    complete = np.isfinite(points).sum(axis=1).argmax()
    centre = points[complete].copy()
    for _ in range(_ROUNDS):
        for one in range(_AXES):
            columns = axis == one
            rest = points[:, columns] - centre[columns]
            known = np.isfinite(rest).any(axis=1)
            points[np.ix_(known, columns)] -= np.nanmedian(rest[known], axis=1)[:, None]
        some = np.isfinite(points).any(axis=0)
        centre[some] = np.nanmedian(points[:, some], axis=0)
    return points, centre


def _covariance(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Covariance and mean with missing values, by expectation maximisation with a prior of no correlation."""
    centre = np.nanmedian(points, axis=0)
    scale = np.maximum(1.4826 * np.nanmedian(np.abs(points - centre), axis=0), _LEAST_MM)
    z = np.clip((points - centre) / scale, -3.5, 3.5)
    count, size = z.shape
    known = np.isfinite(z)
    covariance, mean = np.eye(size), np.zeros(size)
    patterns, members = np.unique(known, axis=0, return_inverse=True)
    for _ in range(_ROUNDS):
        filled, extra = np.where(known, z, 0.0), np.zeros((size, size))
        for number, have in enumerate(patterns):
            if have.all():
                continue
            rows = np.flatnonzero(members.ravel() == number)
            cross = covariance[np.ix_(~have, have)]
            gain = np.linalg.solve(covariance[np.ix_(have, have)], cross.T).T if have.any() else cross
            rest = filled[np.ix_(rows, have)] - mean[have]
            filled[np.ix_(rows, ~have)] = mean[~have] + rest @ gain.T
            extra[np.ix_(~have, ~have)] += rows.size * (covariance[np.ix_(~have, ~have)] - gain @ cross.T)
        mean = filled.mean(axis=0)
        rest = filled - mean
        covariance = (rest.T @ rest + extra + _PRIOR * np.eye(size)) / (count + _PRIOR)
    return covariance * np.outer(scale, scale), centre + mean * scale
