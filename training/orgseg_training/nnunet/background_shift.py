"""The number by which the logit of the background is lowered, so that organs have their highest mean Dice.

A network is trained for the sum of cross-entropy and Dice. The label of the highest probability is best for
the first, not for the Dice: doubtful voxels at the surface of an organ are left to the background. One number
for all organs is fitted: numbers for each organ, fitted to a few scans, do worse on other scans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

SHIFTS: Final = np.arange(0.0, 3.01, 0.25)
"""The numbers that are tried; 0 leaves the network as it is."""


def organ_margins(logits: torch.Tensor) -> torch.Tensor:
    """The most probable organ of each voxel, and how far its logit is above that of the background.

    Parameters
    ----------
    logits : (labels, ...), background first

    Returns
    -------
    (2, ...) float: the margin, and the number of the organ
    """
    best, organ = logits[1:].float().max(0)
    return torch.stack([best - logits[0].float(), (organ + 1).float()])


def shifted_dice(
    margins: NDArray[np.float32], organs: NDArray[np.integer], drawn: NDArray[np.bool_], number: int
) -> NDArray[np.float64]:
    """The Dice of an organ in a scan for each of `SHIFTS`.

    Parameters
    ----------
    margins, organs : (voxels,) of `organ_margins`, where it is known whether the organ is there
    drawn : (voxels,) whether the organ is there
    number : of the organ
    """
    own = organs == number
    found = np.array([np.count_nonzero(own & (margins > -shift)) for shift in SHIFTS], np.float64)
    both = np.array([np.count_nonzero(own & drawn & (margins > -shift)) for shift in SHIFTS], np.float64)
    return 2 * both / np.maximum(1, found + np.count_nonzero(drawn))


def best_shift(dice: Mapping[str, Sequence[NDArray[np.float64]]]) -> tuple[float, float]:
    """The shift with the highest mean Dice over the organs, and how much that gains.

    Parameters
    ----------
    dice : for each organ, the Dice of each scan for each of `SHIFTS`
    """
    known = [np.mean(scans, axis=0) for scans in dice.values() if scans]
    if not known:
        return 0.0, 0.0
    mean = np.mean(known, axis=0)
    best = int(mean.argmax())
    return float(SHIFTS[best]), float(mean[best] - mean[0])


def lower_background(layer: torch.nn.Module, shift: float) -> None:
    """Lower the logit of the background of a network.

    Parameters
    ----------
    layer : its last convolution, whose first channel is the background
    shift : how far
    """
    bias = layer.bias
    if not isinstance(bias, torch.Tensor):
        raise TypeError("The last layer of the network has no bias.")
    with torch.no_grad():
        bias[0] -= shift
