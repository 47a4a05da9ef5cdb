"""Proposing versions, running them in the shadow, and going back to the version before."""

from __future__ import annotations

from dataclasses import dataclass, field

from orgseg_node.errors import (
    BundleReplaced,
    IllegalTransition,
    ModelError,
    NoEarlierVersion,
    UnknownVersion,
)
from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle, verify_bundle
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.models import version_states
from orgseg_node.node.models.version_rows import (
    ModelVersion,
    find_version,
    live_version,
    shadow_version,
    versions,
)
from orgseg_node.node.models.version_states import VersionChange, VersionKey
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Transaction
from orgseg_node.node.store.model import COMPUTING, Job, JobState
from orgseg_node.node.store.series_states import open_revision
from orgseg_node.node.store.store import Store

_WAITING = frozenset({JobState.QUEUED, JobState.RETRY_WAIT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """What a rollback did.

    Attributes
    ----------
    withdrawn, live : the version that was live, and the one that is live now
    decided_again : numbers of jobs that waited with the withdrawn version; their series are judged again
    kept : numbers of jobs that are running, in REVIEW or failed with the withdrawn version, and keep it
    """

    withdrawn: ModelVersion
    live: ModelVersion
    decided_again: tuple[str, ...] = field(default_factory=tuple)
    kept: tuple[str, ...] = field(default_factory=tuple)


class ModelRegistry:
    """The versions of models on a node.

    Parameters
    ----------
    config : the node's configuration
    store : the node's database
    clock : source of the time
    """

    def __init__(self, config: NodeConfig, store: Store, *, clock: Clock = utc_now) -> None:
        self._config = config
        self._store = store
        self._db = store.database
        self._clock = clock

    def installed(self, name: str) -> ModelBundle:
        """A bundle that may become a version: every file is as its manifest says. Raises BundleError."""
        bundle = find_bundle(name, self._config.bundle_paths)
        verify_bundle(bundle)
        return bundle

    def begin_shadow(self, family: str, bundle: ModelBundle, note: str) -> ModelVersion:
        """Have a bundle run in the shadow of the live version, instead of any other one.

        Parameters
        ----------
        family : of which it is a version
        bundle : a verified bundle
        note : who decided it, and why

        Raises
        ------
        NoLiveVersion
            If no version of the family is live.
        ModelError
            If the bundle itself is live.
        """
        live = live_version(self._db, family)
        if live.sha256 == bundle.sha256:
            raise ModelError(f"{live.short} is live; it cannot run in its own shadow.")
        change, key = self._change(note), VersionKey(family=family, sha256=bundle.sha256)
        with self._db.write() as tx:
            version_states.propose(tx, key, bundle.manifest.name, change)
            version_states.begin_shadow(tx, key, change)
        return self.version(family, bundle.sha256)

    def end_shadow(self, family: str, note: str) -> ModelVersion:
        """End the running of a version in the shadow.

        Parameters
        ----------
        family : of the version
        note : who decided it, and why

        Raises
        ------
        UnknownVersion
            If none runs in the shadow.
        """
        shadow = shadow_version(self._db, family)
        with self._db.write() as tx:
            key = VersionKey(family=family, sha256=shadow.sha256)
            version_states.end_shadow(tx, key, self._change(note))
        return self.version(family, shadow.sha256)

    def roll_back(self, family: str, note: str) -> Rollback:
        """Make the version live that was live before, at one instant.

        Jobs that wait with the withdrawn version are decided again in the same transaction; those that are
        running, failed, or wait for a person, keep it and are listed.

        Parameters
        ----------
        family : of the versions
        note : who decided it, and why

        Raises
        ------
        NoLiveVersion, NoEarlierVersion
            If none is live, or it is the first.
        BundleError
            If the earlier bundle is not installed, or not as it was.
        """
        live = live_version(self._db, family)
        if not live.replaces:
            raise NoEarlierVersion(f"{live.short} is the first version of {family!r}.")
        earlier = self.version(family, live.replaces)
        bundle = self.installed(earlier.bundle)
        if bundle.sha256 != earlier.sha256:
            raise BundleReplaced(f"'{earlier.bundle}' was live as {earlier.sha256[:12]}.")
        keys = [VersionKey(family=family, sha256=one.sha256) for one in (live, earlier)]
        with self._db.write() as tx:
            still = tx.rows(
                "SELECT 1 FROM model_version WHERE family = ? AND sha256 = ? AND state = 'LIVE'",
                (family, live.sha256),
            )
            if not still:
                raise IllegalTransition(f"{live.short} is no longer live; look at the history.")
            version_states.roll_back(tx, keys[0], keys[1], self._change(f"rollback {note}"))
            again, kept = self._decide_again(tx, live)
        return Rollback(
            withdrawn=self.version(family, live.sha256),
            live=self.version(family, earlier.sha256),
            decided_again=again,
            kept=kept,
        )

    def version(self, family: str, sha256: str) -> ModelVersion:
        """One version. Raises UnknownVersion."""
        found = find_version(self._db, family, sha256)
        if found is None:
            raise UnknownVersion(f"Family {family!r} has no version {sha256[:12]}.")
        return found

    def versions(self, family: str = "") -> list[ModelVersion]:
        """The versions of a family, or of all."""
        return versions(self._db, family)

    def unfinished(self, version: ModelVersion) -> list[Job]:
        """The jobs that are made with a version and were not sent yet, also those that failed."""
        jobs = self._store.jobs(states=COMPUTING | {JobState.FAILED})
        return [job for job in jobs if version.sha256 in job.models and job.purged_at is None]

    def _decide_again(
        self, tx: Transaction, withdrawn: ModelVersion
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Have the series of waiting jobs of a version judged again; those jobs, and the others of it."""
        again, kept = [], []
        for job in self.unfinished(withdrawn):
            if job.state in _WAITING and job.delivered_at is None:
                open_revision(tx, job.series_uid, f"{withdrawn.short} was withdrawn; it is judged again.")
                self._store.supersede_within(tx, job.series_uid)
                again.append(job.job_id)
            else:
                kept.append(job.job_id)
        return tuple(again), tuple(kept)

    def _change(self, note: str) -> VersionChange:
        return VersionChange(note=note, at=stamp(self._clock()))


def family_of_bundle(name: str, given: str) -> str:
    """The family of a bundle: the given one, that in its name, such as ``head-neck@2``, or the name itself.

    Parameters
    ----------
    name : of the bundle
    given : by the user; empty if not given
    """
    return given or name.partition("@")[0]
