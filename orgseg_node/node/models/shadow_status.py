"""What a version in the shadow does now: it waits for a first scan, contours one, or has contoured all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orgseg_node.node.models.shadow_rows import ShadowRun, ShadowRuns
from orgseg_node.node.models.version_rows import ModelVersion, in_state, versions
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import ModelState


class ShadowPhase(StrEnum):
    """What a version in the shadow does now."""

    NO_LIVE = "no-live"
    FIRST = "first"
    QUEUED = "queued"
    RUNNING = "running"
    IDLE = "idle"

    @property
    def sentence(self) -> str:
        """What it means."""
        return _SENTENCES[self]


_SENTENCES: Final = {
    ShadowPhase.NO_LIVE: "It does not run: no version of its family is live.",
    ShadowPhase.FIRST: "It waits for the first scan that the live version contours.",
    ShadowPhase.QUEUED: "It contours the next scan as soon as no job waits.",
    ShadowPhase.RUNNING: "It has begun a scan.",
    ShadowPhase.IDLE: "It has contoured every scan of the live version, and waits for the next.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowStatus:
    """A version in the shadow.

    Attributes
    ----------
    version : the version
    phase : what it does now
    runs : its scans, the oldest first
    wanted : number of compared scans that are enough for a report
    """

    version: ModelVersion
    phase: ShadowPhase
    runs: Sequence[ShadowRun]
    wanted: int

    @property
    def compared(self) -> int:
        """Number of scans that were compared with the live version."""
        return sum(run.is_compared for run in self.runs)

    @property
    def failed(self) -> int:
        """Number of scans that were given up."""
        return sum(run.is_failed for run in self.runs)

    @property
    def summary(self) -> str:
        """What it does and has done, in one or two sentences."""
        if self.phase in {ShadowPhase.NO_LIVE, ShadowPhase.FIRST} and not self.runs:
            return self.phase.sentence
        few = "" if self.compared >= self.wanted else f"; too few, {self.wanted} are wanted"
        lost = f", {self.failed} failed" if self.failed else ""
        return f"{self.compared} scans{lost}{few}. {self.phase.sentence}"


def shadow_status(database: Database, shadow: ModelVersion, wanted: int) -> ShadowStatus:
    """What a version in the shadow does now.

    Parameters
    ----------
    database : the node's database
    shadow : the version
    wanted : number of compared scans that are enough, ``shadow_cases`` of the configuration
    """
    table = ShadowRuns(database)
    runs = table.outcomes(shadow)
    live = in_state(database, shadow.family, ModelState.LIVE)
    if live is None:
        phase = ShadowPhase.NO_LIVE
    elif any(run.attempts and not run.outcome for run in runs):
        phase = ShadowPhase.RUNNING
    elif table.next_job(live, shadow, wanted) is not None:
        phase = ShadowPhase.QUEUED
    else:
        phase = ShadowPhase.IDLE if runs else ShadowPhase.FIRST
    return ShadowStatus(version=shadow, phase=phase, runs=runs, wanted=wanted)


def all_shadows(database: Database, wanted: int, family: str = "") -> list[ShadowStatus]:
    """Every version in the shadow.

    Parameters
    ----------
    database, wanted : see `shadow_status`
    family : only this family of models; empty for all
    """
    known = versions(database, family)
    return [shadow_status(database, one, wanted) for one in known if one.state is ModelState.SHADOW]
