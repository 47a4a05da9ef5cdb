"""Overlap of two masks: Dice, Jaccard, volume difference.

If both masks are empty, the overlap is undefined and the functions return NaN; if one is empty, it is 0.
"""

from __future__ import annotations

import numpy as np

from orgseg_node.core.volume import Mask


def dice(a: Mask, b: Mask) -> float:
    """Dice similarity coefficient: twice the common volume divided by the sum of both; 1 is perfect.

    Dice, Ecology 26 (1945) 297.

    Parameters
    ----------
    a, b : bool arrays of one shape

    Returns
    -------
    0 to 1, or NaN if both masks are empty
    """
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    if total == 0:
        return float("nan")
    return 2.0 * int(np.count_nonzero(a & b)) / total


def jaccard(a: Mask, b: Mask) -> float:
    """Jaccard index: the common volume divided by the volume of the union; 1 is perfect.

    Jaccard, New Phytologist 11 (1912) 37. For one pair of masks it is D / (2 - D) with D their Dice;
    this does not hold for means over patients.

    Parameters
    ----------
    a, b : bool arrays of one shape

    Returns
    -------
    0 to 1, or NaN if both masks are empty
    """
    union = int(np.count_nonzero(a | b))
    if union == 0:
        return float("nan")
    return int(np.count_nonzero(a & b)) / union


def volume_difference_ml(reference: Mask, prediction: Mask, voxel_ml: float) -> float:
    """Volume of the prediction minus that of the reference in ml; positive if the prediction is too large.

    Parameters
    ----------
    reference, prediction : bool arrays
    voxel_ml : volume of one voxel in millilitres
    """
    return (int(np.count_nonzero(prediction)) - int(np.count_nonzero(reference))) * voxel_ml
