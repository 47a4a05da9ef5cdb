"""Whether a guide has proved itself on a CT, so that its silence about an organ counts.

A guide whose organs were exchanged, or that fails on a CT, is silent about organs that are there. So its
silence is believed only after its word: on this CT, the networks of other organs must have found them where
the guide did, and none may have found its organ elsewhere, not at all, or where the guide was silent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from orgseg_node.inference.bundles.bundle import Part
from orgseg_node.inference.predictor import GuidedOutcome
from orgseg_node.inference.subset import NetworkSelection

MIN_CONFIRMED: Final = 2
"""Number of organs that must be confirmed at least."""

_CONFIRMED: Final = frozenset({GuidedOutcome.BOX, GuidedOutcome.WIDENED})
_CONTRADICTED: Final = frozenset(
    {GuidedOutcome.GUIDE_DOUBTFUL, GuidedOutcome.EMPTY, GuidedOutcome.DIFFERENT, GuidedOutcome.DOUBTFUL}
)


@dataclass(slots=True, kw_only=True)
class GuideProof:
    """The organs that a guide found on a CT, as far as their networks were run.

    Attributes
    ----------
    known : keys of the organs that the guide knows and that are asked for
    silent : keys of those of which it found nothing, or a crumb
    unproven : see `GuidedRun`
    confirmed : keys of the organs that their networks found where the guide did
    contradicted : whether a network found its organ elsewhere than the guide, or not, or as it cannot be, or
        although the guide was silent about it
    """

    known: frozenset[str]
    silent: frozenset[str]
    unproven: frozenset[str] = frozenset()
    confirmed: set[str] = field(default_factory=set)
    contradicted: bool = False

    def add(self, organs: Iterable[str], outcome: GuidedOutcome) -> None:
        """Count the result of a network.

        Parameters
        ----------
        organs : keys of its organs
        outcome : what came of following the guide
        """
        claimed = set(organs) - self.silent
        if outcome in _CONFIRMED:
            self.confirmed |= claimed
        elif outcome in _CONTRADICTED and claimed:
            self.contradicted = True

    def add_found(self, organs: Iterable[str]) -> None:
        """Count what a network found in the end, wherever it was run.

        Parameters
        ----------
        organs : keys of the organs of which it found more than a crumb
        """
        if self.silent.intersection(organs):
            self.contradicted = True

    def in_order(self, selection: NetworkSelection) -> tuple[Part, ...]:
        """The networks in the order in which they are run: those of silent organs when others gave proof."""
        last = [part for part in selection.whole if self.silent.intersection(part.labels.values())]
        first = [part for part in selection.whole if part not in last]
        return (*first, *last, *selection.contesting)

    def silence_counts(self, organs: Iterable[str]) -> bool:
        """Whether the guide is silent about all of these organs, and is to be believed.

        That is so if at least two, and at least half, of the organs that it knows and that are asked for were
        confirmed, and none was contradicted.

        Parameters
        ----------
        organs : keys
        """
        enough = len(self.confirmed) >= max(MIN_CONFIRMED, len(self.known) / 2)
        believed = (self.silent - self.unproven).issuperset(organs)
        return enough and believed and not self.contradicted
