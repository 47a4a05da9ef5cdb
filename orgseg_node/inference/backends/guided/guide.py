"""Whether and how networks are run only where the guide of their bundle found their organs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from orgseg_node.core.anatomy.possible import is_crumb, trusted_organs
from orgseg_node.core.body import Body
from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.volume import Volume
from orgseg_node.inference.backends.guided.proof import GuideProof
from orgseg_node.inference.backends.guided.run import GuidePlaces
from orgseg_node.inference.bundles.tables.guide import Guide
from orgseg_node.inference.bundles.tables.guided_calibration import describe_guided
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.predictor import (
    GuidedNetwork,
    GuidedOutcome,
    InferenceSettings,
    Predictor,
    ProgressCallback,
)
from orgseg_node.inference.preparing import PreparedCt

NOT_LED: Final = frozenset(GuidedOutcome) - {
    GuidedOutcome.BOX,
    GuidedOutcome.WIDENED,
    GuidedOutcome.NO_SAVING,
    GuidedOutcome.UNKNOWN,
    GuidedOutcome.SUSPECTED,
    GuidedOutcome.REFUTED,
    GuidedOutcome.ABSENT,
    GuidedOutcome.EXPLAINED,
}
"""Outcomes in which the guide knows an organ, did not lead to it, and its silence did not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedRun:
    """How networks are run where the guide found their organs.

    Attributes
    ----------
    layout : how tiles are laid over the box of an organ
    margin_mm : margin of the box around the organ of the guide
    sparse : whether a network that must search the whole CT does so with few tiles first, see `sparse_search`
    suspicion : probability of an organ in the guide, against background, from which on a network searches it
        where the guide did not find it, see `proof`; None to search the whole CT
    explained : whether a network does not search what it only suspects and another organ explains, see
        `explained`
    unproven : keys of organs about which silence never counts, as no reference CT showed that the guide finds
        them
    """

    layout: Layout
    margin_mm: float
    sparse: bool
    suspicion: float | None = None
    explained: bool = False
    unproven: frozenset[str] = frozenset()

    def describe(self) -> str:
        """For the description of the method."""
        return describe_guided(
            self.layout, self.margin_mm, self.suspicion, sparse=self.sparse, explained=self.explained
        )


def allowed_run(guide: Guide | None, settings: InferenceSettings) -> GuidedRun | None:
    """How guided runs are allowed by the calibration of the guide; None if they are not.

    Parameters
    ----------
    guide : from the manifest of the bundle
    settings : which may forbid guided runs; the calibration counts for the backend that it was measured with
    """
    if guide is None or guide.calibration is None or not settings.guided:
        return None
    calibration = guide.calibration
    if calibration.shortcomings or calibration.backend != settings.backend:
        return None
    return GuidedRun(
        layout=Layout(calibration.layout),
        margin_mm=calibration.margin_mm,
        sparse=calibration.sparse,
        suspicion=calibration.suspicion,
        explained=calibration.explained,
        unproven=frozenset(calibration.never_found),
    )


def guide_finding(networks: Sequence[GuidedNetwork]) -> tuple[Finding, ...]:
    """The finding that the guide did not lead to some organs; empty if it led to all."""
    organs = [key for row in networks if row.outcome in NOT_LED for key in row.organs]
    if not organs:
        return ()
    message = f"The guide did not lead to {', '.join(organs)}; searched on the whole CT instead."
    return (Finding(level=Level.INFO, code="GUIDE_NOT_FOLLOWED", message=message, value=float(len(organs))),)


class LoadablePredictor(Predictor, Protocol):
    """A predictor that can load its networks before it is run."""

    def load_networks(self) -> None:
        """Load the weights of its networks now."""
        ...


class OpenGuide:
    """The guide of a bundle, ready to run.

    Parameters
    ----------
    predictor : runs its networks
    guide : as the manifest describes it
    run : how the networks are run that it leads
    """

    def __init__(self, predictor: LoadablePredictor, guide: Guide, run: GuidedRun) -> None:
        self._predictor = predictor
        self._name = f"{guide.name} {guide.version}"
        self.description = f", guided by {self._name} ({run.describe()})"
        self._run = run

    def load_networks(self) -> None:
        """Load the weights of its networks now."""
        self._predictor.load_networks()

    def places(
        self, volume: Volume, body: Body, prepared: PreparedCt, on_progress: ProgressCallback
    ) -> tuple[GuidePlaces, float]:
        """Run it.

        Parameters
        ----------
        volume : CT in HU
        body : the patient in it
        prepared : the CT as it is prepared for the networks that it leads
        on_progress : called during the work; may raise to stop

        Returns
        -------
        where it found the organs, and the seconds that its networks computed
        """
        found = self._predictor.predict(volume, body, on_progress)
        volumes_ml = found.label_map.volumes_ml()
        silent = {
            organ.key
            for number, organ in found.label_map.organs.items()
            if is_crumb(volumes_ml[number], organ.volume_ml)
        }
        places = GuidePlaces(
            guide=self._name,
            found=found.label_map,
            suspected=None
            if found.suspected is None
            else {key: where for key, where in found.suspected.items() if key in silent},
            trusted=trusted_organs(found.label_map),
            proof=GuideProof(
                known=frozenset(organ.key for organ in found.label_map.organs.values()),
                silent=frozenset(silent),
                unproven=self._run.unproven,
            ),
            tiles=found.tiles,
            prepared=prepared,
            layout=self._run.layout,
            margin_mm=self._run.margin_mm,
            sparse=self._run.sparse,
            explained=self._run.explained,
        )
        return places, found.timings_s["network"]
