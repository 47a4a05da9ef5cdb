"""Goals of the measurements: what is wanted, what was measured, and whether that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One goal.

    Attributes
    ----------
    text : what is measured, with the number of cases
    value : what was measured; NaN if nothing was
    limit : smallest value that reaches the goal, or the largest
    at_most : whether the limit is the largest value
    """

    text: str
    value: float
    limit: float
    at_most: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether the goal is reached; it is not if nothing was measured."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def line(self) -> str:
        """The goal and the value, for people."""
        sign = "at most" if self.at_most else "at least"
        verdict = "reached" if self.is_reached else "MISSED "
        return f"{verdict} {self.text}: {self.value:.4g} ({sign} {self.limit:g})"


def conclude(name: str, goals: Sequence[Goal]) -> int:
    """Print the goals and how many are reached; the exit status, 1 if one is missed or there is none.

    Parameters
    ----------
    name : of the measurement
    goals : of it
    """
    print()
    for goal in goals:
        print(goal.line)
    reached = sum(goal.is_reached for goal in goals)
    print(f"{name}: {reached} of {len(goals)} goals reached", flush=True)
    return 0 if goals and reached == len(goals) else 1
