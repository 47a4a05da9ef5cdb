"""How much an organ looks like a faulty contour rather than a correct one: a logistic regression.

It is learned from correct contours and the same contours with the faults of `changes`, all measured alike. It
weighs the measures by what tells faults from patients, where a distance from the typical weighs them by how
they scatter. Both the measures and their sizes count, so that it sees faults to either side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import minimize

from orgseg_node.core.geometry import FloatArray

_RIDGE: Final = 0.5  # weight of the squared weights beside the mean loss; chosen on training patients
_FARTHEST: Final = 5.0  # scales; a value that is farther away says nothing more
_USUAL: Final = 0.8  # mean size of a standardised value of a correct contour
_STEPS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Discriminant:
    """The weights of standardised values.

    Attributes
    ----------
    signed : (V,) weights of the values
    sizes : (V,) weights of their sizes
    """

    signed: FloatArray
    sizes: FloatArray

    @classmethod
    def fit(cls, correct: FloatArray, faulty: FloatArray) -> Discriminant:
        """What distinguishes faulty contours from correct ones; both classes count the same.

        Parameters
        ----------
        correct, faulty : (N, V) standardised values; NaN where one is not known
        """
        rows = np.concatenate([_features(correct), _features(faulty)])
        sign = np.concatenate([np.full(len(correct), -1.0), np.ones(len(faulty))])
        share = np.concatenate([np.full(len(each), 0.5 / len(each)) for each in (correct, faulty)])

        def loss(weights: FloatArray) -> tuple[float, FloatArray]:
            along = sign * (rows @ weights[1:] + weights[0])
            slope = -sign * share / (1.0 + np.exp(np.clip(along, -50.0, 50.0)))
            value = float(share @ np.logaddexp(0.0, -along)) + _RIDGE / 2 * float(weights[1:] @ weights[1:])
            return value, np.concatenate([[slope.sum()], slope @ rows + _RIDGE * weights[1:]])

        start = np.zeros(rows.shape[1] + 1)
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x[1:]
        size = correct.shape[1]
        return cls(signed=found[:size], sizes=found[size:])

    def value(self, z: FloatArray) -> float:
        """How much standardised values (V,) look like a fault; comparable for one organ only."""
        return float(_features(z[None])[0] @ np.concatenate([self.signed, self.sizes]))

    def as_dict(self) -> dict[str, Any]:
        """As plain lists."""
        return {name: [round(float(v), 5) for v in getattr(self, name)] for name in ("signed", "sizes")}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], size: int) -> Discriminant:
        """From `as_dict`, for so many values. Raises KeyError, TypeError or ValueError if it is none."""
        signed, sizes = (
            np.array(document[name], dtype=np.float64).reshape(size) for name in ("signed", "sizes")
        )
        return cls(signed=signed, sizes=sizes)


def _features(z: FloatArray) -> FloatArray:
    limited = np.clip(z, -_FARTHEST, _FARTHEST)
    features: FloatArray = np.nan_to_num(np.concatenate([limited, np.abs(limited) - _USUAL], axis=1))
    return features
