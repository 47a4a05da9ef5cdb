"""Which level of the body each slice of a scan shows, by comparison with scans of known anatomy.

A level is a place along the body in mm, upward; zero is arbitrary. For knots along it the model holds what
is measured there on the reference scans: the mean of the measures and how they scatter. A scan is aligned so
that as much of it as possible looks like the levels that it then shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from orgseg_node.core.geometry import FloatArray

_KNOT_MM: Final = 15.0
_SCATTER_MM: Final = 12.0  # slices this near a knot (standard deviation) describe it
_STEP_MM: Final = 5.0
_COMMON: Final = 0.3  # weight of the scatter over all levels in that of one level
_DIAGONAL: Final = 0.1
_LEAST_SCANS, _LEAST_SHARE = (
    10,
    0.05,
)  # a level that fewer of the reference scans show is not part of the model
_ROUNDS: Final = 4
_NOT_MEASURED: Final = 1e6  # distance of a slice without measures: it looks like no level
_OUTLIER: Final = (
    4.0  # standard deviations; a measure that is farther off, such as by a head rest, counts like this
)
_LIMIT: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelModel:
    """What scans look like along the body.

    Attributes
    ----------
    knots_mm : (N,) levels, evenly spaced and increasing
    means : (N, M) mean of each measure
    precisions : (N, M, M) inverse covariance of the measures
    limit : distance of a slice (see `distances`) above which it does not look like its level
    """

    knots_mm: FloatArray
    means: FloatArray
    precisions: FloatArray
    limit: float

    @property
    def range_mm(self) -> tuple[float, float]:
        """The lowest and the highest level that the model knows."""
        return float(self.knots_mm[0]), float(self.knots_mm[-1])

    def distances(self, rows: FloatArray, levels_mm: FloatArray) -> FloatArray:
        """How unlike each level each slice is: squared Mahalanobis distance by number of measures.

        Parameters
        ----------
        rows : (K, M) measures of the slices, NaN where there is no patient
        levels_mm : (L,) levels inside the range of the model

        Returns
        -------
        (K, L), usually about 1; a very large number for a slice without a patient
        """
        count = rows.shape[1]
        result = np.full((rows.shape[0], levels_mm.size), _NOT_MEASURED)
        known = np.isfinite(rows).all(axis=1)
        means = np.stack([np.interp(levels_mm, self.knots_mm, column) for column in self.means.T], axis=1)
        spreads = [_OUTLIER * np.sqrt(np.diag(np.linalg.inv(each))) for each in self.precisions]
        nearest = np.argmin(np.abs(self.knots_mm[:, None] - levels_mm), axis=0)
        for n, (mean, knot) in enumerate(zip(means, nearest, strict=True)):
            away = np.clip(rows[known] - mean, -spreads[knot], spreads[knot])
            result[known, n] = ((away @ self.precisions[knot]) * away).sum(axis=1) / count
        return result

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers; of each precision only the lower triangle."""
        lower = np.tril_indices(self.means.shape[1])
        return {
            "knots_mm": _short(self.knots_mm),
            "means": [_short(row) for row in self.means],
            "precisions": [_short(matrix[lower]) for matrix in self.precisions],
            "limit": round(self.limit, 3),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LevelModel:
        """The model of plain numbers. Raises ValueError, KeyError or TypeError if they are no model."""
        knots, means = np.array(values["knots_mm"], dtype=float), np.array(values["means"], dtype=float)
        size = means.shape[1]
        lower = np.tril_indices(size)
        precisions = np.zeros((knots.size, size, size))
        for n, triangle in enumerate(values["precisions"]):
            precisions[n][lower] = triangle
            precisions[n] += np.tril(precisions[n], -1).T
        if not means.shape[0] == knots.size == len(values["precisions"]) or not (np.diff(knots) > 0).all():
            raise ValueError("The levels and their means do not fit together.")
        return cls(knots_mm=knots, means=means, precisions=precisions, limit=float(values["limit"]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alignment:
    """A scan along the body.

    Attributes
    ----------
    offset_mm : z position at level zero
    similarity_mm : how many mm of the scan look like the levels that they show, less those that do not
    levels_mm : (K,) level of each slice
    distances : (K,) distance of each slice from its level; NaN where the model does not know the level
    """

    offset_mm: float
    similarity_mm: float
    levels_mm: FloatArray
    distances: FloatArray

    @property
    def compared(self) -> int:
        """Number of slices whose level the model knows."""
        return int(np.isfinite(self.distances).sum())


def align(
    model: LevelModel, z_mm: FloatArray, rows: FloatArray, within_mm: tuple[float, float] | None = None
) -> Alignment:
    """Find the levels that a scan shows.

    Parameters
    ----------
    model : of the reference scans
    z_mm : (K,) positions of the slices in mm, increasing
    rows : (K, M) measures of the slices
    within_mm : the offset is looked for between these; everywhere if None
    """
    low, high = model.range_mm
    fine = np.arange(low, high + _STEP_MM / 2, _STEP_MM)
    each = model.distances(rows, fine)
    first, last = within_mm or (z_mm[0] - high, z_mm[-1] - low)
    thickness = float(np.median(np.diff(z_mm))) if z_mm.size > 1 else _STEP_MM
    gain = 1.0 - np.minimum(
        each / model.limit, 2.0
    )  # 1 for a perfect slice, 0 at the limit, -1 for any other
    offsets = np.arange(first, last + _STEP_MM / 4, _STEP_MM / 2)
    slices = np.arange(z_mm.size)
    padded = np.pad(gain, ((0, 0), (1, 1)))  # a level that the model does not know counts neither way
    at = np.clip(np.rint((z_mm - offsets[:, None] - low) / _STEP_MM).astype(np.intp) + 1, 0, fine.size + 1)
    totals = padded[slices, at].sum(axis=1) * thickness
    best = int(np.argmax(totals))
    known = (at[best] > 0) & (at[best] <= fine.size)
    distances = np.where(known, each[slices, np.clip(at[best] - 1, 0, fine.size - 1)], np.nan)
    return Alignment(
        offset_mm=float(offsets[best]),
        similarity_mm=float(totals[best]),
        levels_mm=z_mm - offsets[best],
        distances=distances,
    )


def learn_levels(
    scans: Sequence[tuple[FloatArray, FloatArray]], offsets_mm: FloatArray
) -> tuple[LevelModel, FloatArray]:
    """Learn the levels from reference scans, and improve the alignment of these scans.

    Parameters
    ----------
    scans : for each scan the (K,) positions of its slices in mm and their (K, M) measures
    offsets_mm : (N,) first estimate of the z position of level zero in each scan

    Returns
    -------
    The model, and the improved offsets.
    """
    offsets = offsets_mm.astype(float).copy()
    start = float(np.median(offsets))
    model = _fit(scans, offsets)
    for _ in range(_ROUNDS):
        for n, (z, rows) in enumerate(scans):
            around = (offsets[n] - 50.0, offsets[n] + 50.0)
            offsets[n] = align(model, z, rows, around).offset_mm
        offsets += start - float(np.median(offsets))
        model = _fit(scans, offsets)
    return model, offsets


def _fit(scans: Sequence[tuple[FloatArray, FloatArray]], offsets: FloatArray) -> LevelModel:
    levels = np.concatenate([z - offset for (z, _), offset in zip(scans, offsets, strict=True)])
    rows = np.concatenate([each for _, each in scans])
    owner = np.concatenate([np.full(z.size, n) for n, (z, _) in enumerate(scans)])
    known = np.isfinite(rows).all(axis=1)
    levels, rows, owner = levels[known], rows[known], owner[known]
    all_knots = np.arange(np.floor(levels.min() / _KNOT_MM) * _KNOT_MM, levels.max() + _KNOT_MM, _KNOT_MM)
    least = max(_LEAST_SCANS, _LEAST_SHARE * len(scans))
    seen = [np.unique(owner[np.abs(levels - knot) <= _KNOT_MM / 2]).size >= least for knot in all_knots]
    first, last = np.flatnonzero(seen)[[0, -1]]
    knots = all_knots[first : last + 1]
    means, covariances = [], []
    for knot in knots:
        weights = np.exp(-0.5 * ((levels - knot) / _SCATTER_MM) ** 2)
        weights /= weights.sum()
        mean = weights @ rows
        away = rows - mean
        means.append(mean)
        covariances.append((weights[:, None] * away).T @ away)
    common = np.mean(covariances, axis=0)
    precisions = []
    for covariance in covariances:
        mixed = (1 - _COMMON) * covariance + _COMMON * common
        mixed = (
            (1 - _DIAGONAL) * mixed + _DIAGONAL * np.diag(np.diag(mixed)) + 0.02 * np.diag(np.diag(common))
        )
        precisions.append(np.linalg.inv(mixed + 1e-9 * np.eye(mixed.shape[0])))
    model = LevelModel(knots_mm=knots, means=np.array(means), precisions=np.array(precisions), limit=1.0)
    usual = [
        np.diagonal(model.distances(row[None], np.clip([level], *model.range_mm)))
        for level, row in zip(
            levels[:: max(1, levels.size // 2000)], rows[:: max(1, levels.size // 2000)], strict=True
        )
    ]
    limit = max(_LIMIT, 1.2 * float(np.percentile(np.concatenate(usual), 99)))
    return LevelModel(knots_mm=knots, means=model.means, precisions=model.precisions, limit=limit)


def _short(values: FloatArray) -> list[float]:
    """Numbers with four significant digits."""
    return [float(f"{value:.4g}") for value in values]
