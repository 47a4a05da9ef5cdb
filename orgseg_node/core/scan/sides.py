"""Whether left and right of a scan are exchanged, by what is not the same on both sides of the body.

Of a neck nearly nothing differs between the sides; of the upper chest much does (the aortic arch and its
vessels, the oesophagus left of the trachea). For each level and place the model holds how the right half
differs from the left half on the reference scans, weighted by a linear discriminant. A scan whose differences
agree has its sides as the header says; if they agree with the mirror image, it has not; if it shows no such
level, nothing can be said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.scan.grid import FloatImage, ScanGrid
from orgseg_node.core.scan.slices import near_skin

_ROWS_MM: Final = np.arange(-110.0, 111.0, 10.0)  # from the middle of the section to the back
_COLUMNS_MM: Final = np.arange(5.0, 126.0, 10.0)  # from the middle line
_LEVEL_MM: Final = 15.0
_HU: Final = 300.0  # darker and brighter voxels count like this
_BONE_HU: Final = 200.0
_RAIL_MM: Final = 15.0  # what is dense so near to the skin may be a rail of the couch
_LINE_MM: Final = 25.0  # the middle line is smoothed along the body
_NOISE: Final = 0.01  # added to the variance, so that a place where few scans differ does not count too much
_SHRINKAGE: Final = 0.5  # weight of the diagonal in the covariance of the places
_USEFUL: Final = 0.5  # a level counts whose mean score is at least this many standard deviations,
_CERTAIN: Final = 4.0  # and this many standard errors of it more: a few scans differ by chance
_LEAST: Final = 12  # reference scans that must show a level


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SidesModel:
    """How the sides of the body differ.

    Attributes
    ----------
    levels_mm : (N,) levels, evenly spaced and increasing
    weights : (N, 23, 13) of the difference left minus right at each place
    means : (N,) usual score of each level
    covariance : (N, N) of the scores over the reference scans
    roughness : (N,) mean square of the differences that 90 % of the reference scans do not exceed
    scans : number of reference scans
    """

    levels_mm: FloatArray
    weights: FloatArray
    means: FloatArray
    covariance: FloatArray
    roughness: FloatArray
    scans: int

    def evidence(self, scan: ScanGrid, scan_levels_mm: FloatArray) -> float:
        """Logarithm of how much likelier the sides are as stated than exchanged; 0 if nothing can be said.

        Parameters
        ----------
        scan : the scan
        scan_levels_mm : (K,) level of each of its slices
        """
        differences, seen = side_differences(scan, scan_levels_mm, self.levels_mm)
        if not seen.any():
            return 0.0
        score = float((differences * self.weights)[seen].sum())
        expected = float(self.means[seen].sum())
        variance = float(self.covariance[np.ix_(seen, seen)].sum())
        if expected <= 0 or variance <= 0:
            return 0.0
        # a body that lies obliquely differs between its sides everywhere, which says little about them
        oblique = float((differences[seen] ** 2).mean()) / float(self.roughness[seen].mean())
        return 2.0 * expected * score / variance / max(1.0, oblique)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "levels_mm": self.levels_mm.tolist(),
            "weights": [[_short(row) for row in level] for level in self.weights],
            "means": _short(self.means),
            "covariance": [_short(row) for row in self.covariance],
            "roughness": _short(self.roughness),
            "scans": self.scans,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], scans: int) -> SidesModel:
        """The model of plain numbers. Raises ValueError, KeyError or TypeError if they are no model.

        Parameters
        ----------
        values : plain numbers
        scans : number of reference scans, where the numbers do not say it
        """
        levels, weights = np.array(values["levels_mm"], dtype=float), np.array(values["weights"], dtype=float)
        means, covariance = (
            np.array(values["means"], dtype=float),
            np.array(values["covariance"], dtype=float),
        )
        roughness = np.array(values["roughness"], dtype=float)
        count = levels.size
        wanted = (count, _ROWS_MM.size, _COLUMNS_MM.size), (count,), (count, count)
        if (weights.shape, means.shape, covariance.shape) != wanted or roughness.shape != (count,):
            raise ValueError("The parts of the model of the sides do not fit together.")
        return cls(
            levels_mm=levels,
            weights=weights,
            means=means,
            covariance=covariance,
            roughness=roughness,
            scans=int(values.get("scans", scans)),
        )


def side_differences(
    scan: ScanGrid, scan_levels_mm: FloatArray, levels_mm: FloatArray
) -> tuple[FloatImage, NDArray[np.bool_]]:
    """How the left half of a scan differs from the right half.

    Parameters
    ----------
    scan : the scan
    scan_levels_mm : (K,) level of each of its slices, increasing
    levels_mm : (N,) levels that are wanted

    Returns
    -------
    (N, 23, 13) float32 differences left minus right by level, row and distance from the middle line, 0 for a
    level that the scan does not show; and the (N,) levels that it shows.
    """
    result = np.zeros((levels_mm.size, _ROWS_MM.size, _COLUMNS_MM.size), dtype=np.float32)
    seen = np.zeros(levels_mm.size, dtype=np.bool_)
    lines = _middle_lines(scan)
    if lines is None:
        return result, seen
    _, row_mm, column_mm = scan.spacing_mm
    for n, level in enumerate(levels_mm):
        near = np.flatnonzero(np.abs(scan_levels_mm - level) <= _LEVEL_MM / 2)
        if near.size == 0 or not scan.inside[near].any():
            continue
        seen[n] = True
        image = np.clip(scan.hu[near], -_HU, _HU).mean(axis=0) / np.float32(_HU)
        image = ndimage.gaussian_filter(image, (5.0 / row_mm, 5.0 / column_mm), mode="nearest")
        x, y = (float(line[near].mean()) for line in lines)
        rows = (y + _ROWS_MM) / row_mm
        left, right = ((x + sign * _COLUMNS_MM) / column_mm for sign in (1.0, -1.0))
        both = [
            ndimage.map_coordinates(image, np.meshgrid(rows, columns, indexing="ij"), order=1, cval=-1.0)
            for columns in (left, right)
        ]
        result[n] = both[0] - both[1]
    return result, seen


def _middle_lines(scan: ScanGrid) -> tuple[FloatArray, FloatArray] | None:
    """(K,) x of the line between the sides, and y of the middle of the section, in mm from the corner."""
    places = []
    deep = ~near_skin(scan, _RAIL_MM)
    for k, (hu, inside) in enumerate(zip(scan.hu, scan.inside, strict=True)):
        y, x = np.nonzero(inside)
        bone = np.nonzero((hu > _BONE_HU) & deep[k])[1]
        if bone.size >= 5:
            places.append((k, (float(bone.mean()) + float(np.median(x))) / 2, float(np.median(y))))
    if not places:
        return None
    at, x_line, y_line = np.array(places).T
    slices = np.arange(scan.hu.shape[0])
    sigma = _LINE_MM / scan.spacing_mm[0]
    smooth = [
        ndimage.gaussian_filter1d(np.interp(slices, at, line), sigma, mode="nearest")
        for line in (x_line, y_line)
    ]
    return smooth[0] * scan.spacing_mm[2], smooth[1] * scan.spacing_mm[1]


def learn_sides(
    scans: Sequence[tuple[ScanGrid, FloatArray]], range_mm: tuple[float, float]
) -> SidesModel | None:
    """Learn how the sides differ; None if they do not, or if there are too few scans.

    Parameters
    ----------
    scans : reference scans with true sides, each with the (K,) levels of its slices
    range_mm : lowest and highest level
    """
    levels = np.arange(range_mm[0], range_mm[1] + 0.1, _LEVEL_MM)
    parts = [side_differences(scan, of_scan, levels) for scan, of_scan in scans]
    values, seen = np.stack([part for part, _ in parts]), np.stack([part for _, part in parts])
    kept = seen.sum(axis=0) >= _LEAST
    if not kept.any():
        return None
    levels, values, seen = levels[kept], values[:, kept], seen[:, kept]
    # the score of each scan by the weights of all others, so that it is what a new scan will get
    scores = np.stack([_scores(values, seen, n) for n in range(len(scans))])
    count = seen.sum(axis=0)
    means = (scores * seen).sum(axis=0) / count
    away = np.where(seen, scores - means, 0.0)
    together = np.maximum(seen.T.astype(float) @ seen.astype(float), 1.0)
    covariance = away.T @ away / together
    useful = means > (_USEFUL + _CERTAIN / np.sqrt(count)) * np.sqrt(np.diag(covariance))
    if not useful.any():
        return None
    weights = _weights(values, seen)
    squares = (values**2).mean(axis=(-2, -1))
    roughness = [
        np.percentile(of_level[shown], 90) for of_level, shown in zip(squares.T, seen.T, strict=True)
    ]
    return SidesModel(
        levels_mm=levels[useful],
        weights=weights[useful],
        means=means[useful],
        covariance=covariance[np.ix_(useful, useful)],
        roughness=np.array(roughness)[useful],
        scans=len(scans),
    )


def _scores(values: FloatImage, seen: NDArray[np.bool_], one: int) -> FloatArray:
    """(N,) scores of one scan by weights that were learned from all others."""
    others = np.arange(len(values)) != one
    scores: FloatArray = (values[one] * _weights(values[others], seen[others])).sum(axis=(-2, -1))
    return scores


def _weights(values: FloatImage, seen: NDArray[np.bool_]) -> FloatArray:
    """Linear discriminant of each level between scans and their mirror images.

    There are fewer scans than places, so the covariance is mixed with its diagonal, and inverted by way of
    the scans (Woodbury).
    """
    weights = np.zeros(values.shape[1:])
    for level, shown in enumerate(seen.T):
        each = values[shown, level].reshape(int(shown.sum()), -1).astype(np.float64)
        mean = each.mean(axis=0)
        away = each - mean
        diagonal = _SHRINKAGE * (away.var(axis=0) + _NOISE)
        spread = away * np.sqrt((1 - _SHRINKAGE) / len(each))
        first = mean / diagonal
        inner = np.eye(len(each)) + (spread / diagonal) @ spread.T
        weights[level] = (first - spread.T @ np.linalg.solve(inner, spread @ first) / diagonal).reshape(
            values.shape[2:]
        )
    return weights


def _short(values: FloatArray) -> list[float]:
    """Numbers with three significant digits."""
    return [float(f"{value:.3g}") for value in values]
