"""What a lock means for the gate, said before hours of training."""

from __future__ import annotations

from typing import Final

from orgseg_training.evaluation.non_inferiority import pass_probability
from orgseg_training.gate.judgement import Margins
from orgseg_training.gate.session import ASSUMED_SD
from orgseg_training.site.lock import Lock

_VALIDATING: Final = 5  # of the patients that train, one of so many validates a network and is out of fold


def gate_outlook(lock: Lock, organs: int) -> str:
    """How many patients the gate will have, and how often a candidate equal to the live model passes it.

    Parameters
    ----------
    lock : of the site
    organs : number of organs that are trained
    """
    training, test = (len({lock.patients[key] for key in keys}) for keys in (lock.training, lock.test))
    margins = [value for _ in range(organs) for value in (Margins().dice, Margins().surface_dice)]
    some, every = (
        (count, 100 * pass_probability(count, margins, [ASSUMED_SD] * len(margins)))
        for count in (test + max(1, training // _VALIDATING), test + training)
    )
    return (
        f"The gate will have about {some[0]} patients, the locked ones and those that validate, and with"
        f" 'tune --folds 5' all {every[0]}. If each of them shows all {organs} organs, a candidate equal to"
        f" the live model would pass in {some[1]:.0f} and {every[1]:.0f} of 100 gates (standard deviation of"
        f" differences assumed {ASSUMED_SD:g})."
    )
