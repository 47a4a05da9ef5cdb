"""How much of two masks is common: Dice, Jaccard, difference of the volumes.

Empty masks are said, not hidden: when both are empty the overlap is not defined and the functions return NaN;
when one is empty it is 0.
"""

from __future__ import annotations

import numpy as np

from orgseg_node.core.volume import Mask


def dice(a: Mask, b: Mask) -> float:
    """Dice similarity: twice the common volume over the sum of both; 1 is perfect.

    Dice, Ecology 26 (1945) 297.

    Parameters
    ----------
    a, b : bool arrays of one shape

    Returns
    -------
    0 to 1, or NaN when both masks are empty
    """
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    if total == 0:
        return float("nan")
    return 2.0 * int(np.count_nonzero(a & b)) / total


def jaccard(a: Mask, b: Mask) -> float:
    """Jaccard index: the common volume over the volume of the union; 1 is perfect.

    Jaccard, New Phytologist 11 (1912) 37. Of one pair of masks it is D / (2 - D) with D their Dice; of
    means over patients that holds no longer.

    Parameters
    ----------
    a, b : bool arrays of one shape

    Returns
    -------
    0 to 1, or NaN when both masks are empty
    """
    union = int(np.count_nonzero(a | b))
    if union == 0:
        return float("nan")
    return int(np.count_nonzero(a & b)) / union


def volume_difference_ml(reference: Mask, prediction: Mask, voxel_ml: float) -> float:
    """Volume of the prediction minus that of the reference, in ml; positive where it is too large."""
    return (int(np.count_nonzero(prediction)) - int(np.count_nonzero(reference))) * voxel_ml
