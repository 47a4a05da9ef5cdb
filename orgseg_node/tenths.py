"""When long work has reached its next tenth: one line each is enough for output that goes into a file."""

from __future__ import annotations


class Tenths:
    """Counts tenths of work that is done; it begins again where the work does."""

    def __init__(self) -> None:
        self._reached = -1
        self._highest = 0.0

    def reached(self, fraction: float) -> bool:
        """Whether a tenth is reached that was not before; the beginning is one.

        Parameters
        ----------
        fraction : of the work that is done, 0 to 1
        """
        if fraction < self._highest - 0.5:  # another piece of work: progress goes back a little at most
            self._reached = -1
        self._highest = fraction
        tenth = int(10 * fraction + 1e-9)
        is_new = tenth > self._reached
        self._reached = max(tenth, self._reached)
        return is_new
