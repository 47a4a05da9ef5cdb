"""How well two masks of one organ agree.

One pinned definition each. Empty masks are said, not hidden: when both are empty the overlap is not defined
and the functions return NaN; when one is empty it is 0.
"""

from __future__ import annotations

import numpy as np

from orgseg_node.core.volume import Mask


def dice(a: Mask, b: Mask) -> float:
    """Dice similarity: twice the common volume over the sum of both; 1 is perfect.

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
