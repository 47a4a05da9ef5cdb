"""What must be true at the end of a kill test; each thing that is not is one sentence."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from orgseg_node.node.models.shadow_rows import ShadowRuns
from orgseg_node.node.models.version_rows import history, versions
from orgseg_node.node.store.model import DeliveryState, Job, JobState, ModelState, Series, SeriesState
from tests.chaos.sender import hash_of, read_acks
from tests.chaos.world import Sent, World
from tests.support.node.model_bench import FAMILY

_AT_REST = {SeriesState.READY, SeriesState.HOLD, SeriesState.IGNORED, SeriesState.CONFLICT}
_ENDED = {
    JobState.DONE,
    JobState.FAILED,
    JobState.REVIEW,
    JobState.REJECTED,
    JobState.CANCELLED,
    JobState.SUPERSEDED,
}
_DELIVERED = {DeliveryState.STORED, DeliveryState.COMMITTED}
_ON_ITS_WAY = {DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.RETRY_WAIT}
_OBJECTS = {"RTSTRUCT", "SEG"}


@dataclass(kw_only=True)
class Findings:
    """What the checker saw.

    Attributes
    ----------
    problems : every promise that was broken, as a sentence; empty is what is hoped for
    counts : numbers for the report
    states : how many series ended in which state
    """

    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)


def settled(world: World) -> bool:
    """Whether nothing is left to do: every series judged, every job at its end."""
    with world.store() as store:
        series, jobs = store.series(), store.jobs()
    known = {one.series_uid for one in series if one.state in _AT_REST}
    return known >= {sent.series_uid for sent in world.series} and {job.state for job in jobs} <= _ENDED


def check(world: World) -> Findings:
    """Hold acknowledgements, disk, store and destination against each other; only the archive runs."""
    found = Findings()
    _acknowledged(world, found)
    _ends(world, found)
    _destination(world, found)
    _database(world, found)
    _versions(world, found)
    return found


def _acknowledged(world: World, found: Findings) -> None:
    """Every instance that got Success is on the disk, byte for byte, and in the store."""
    with world.store() as store:
        rows = {sop_uid: store.copies(sop_uid) for sent in world.series for sop_uid in sent.sop_uids.values()}
    acked: dict[str, str] = {}
    uids = {file: sop_uid for sent in world.series for file, sop_uid in sent.sop_uids.items()}
    again = 0
    for log in world.ack_logs:
        for file, sha256 in read_acks(log):
            again += uids[file] in acked
            acked[uids[file]] = sha256
    for sop_uid, sha256 in acked.items():
        mine = [copy for copy in rows[sop_uid] if copy.sha256 == sha256]
        if len(rows[sop_uid]) != 1 or not mine:
            found.problems.append(
                f"acknowledged instance {sop_uid} has {len(rows[sop_uid])} rows, {len(mine)} right"
            )
            continue
        path = world.data / mine[0].path
        if not path.is_file() or hash_of(path) != sha256:
            found.problems.append(f"acknowledged instance {sop_uid} is not on the disk as it was sent")
    missing = set(uids.values()) - set(acked)
    if missing:
        found.problems.append(f"{len(missing)} instances were never acknowledged")
    found.counts |= {"series": len(world.series), "instances": len(uids), "acknowledged": len(acked)}
    found.counts["acknowledged twice"] = again


def _ends(world: World, found: Findings) -> None:
    """Every series and job is at an end that has a name; no delivery is on its way."""
    with world.store() as store:
        series = {one.series_uid: one for one in store.series()}
        jobs = store.jobs()
        deliveries = {job.job_id: store.deliveries(job.job_id) for job in jobs}
        sending = store.sending_deliveries()
        events = [event for job in jobs for event in store.events(job.job_id)]
    by_series = defaultdict(list)
    for job in jobs:
        by_series[job.series_uid].append(job)
    for sent in world.series:
        _one_end(sent, series.get(sent.series_uid), by_series[sent.series_uid], found)
    for job in jobs:
        if job.state not in _ENDED:
            found.problems.append(f"job {job.job_id} is stuck in {job.state}")
        if job.state is JobState.FAILED and not (job.reason and job.note):
            found.problems.append(f"job {job.job_id} failed without a reason")
        if job.state is JobState.DONE and any(d.state in _ON_ITS_WAY for d in deliveries[job.job_id]):
            found.problems.append(f"job {job.job_id} is DONE, but not delivered")
    found.problems += [f"delivery {d.job_id} {d.role} is left in SENDING" for d in sending]
    found.counts["jobs"] = len(jobs)
    cut = [e for e in events if e.kind == "delivery" and e.change == "SENDING -> RETRY_WAIT"]
    found.counts["deliveries cut off or refused, and made again"] = len(cut)
    found.counts["contourings begun"] = sum(event.change == "QUEUED -> PREPARING" for event in events)
    found.counts["revisions beyond the first"] = sum(one.revision - 1 for one in series.values())


def _one_end(sent: Sent, one: Series | None, jobs: list[Job], found: Findings) -> None:
    """One series is judged, and has a job with all its slices where it is READY."""
    if one is None or one.state not in _AT_REST:
        found.problems.append(f"series {sent.series_uid} is {one.state if one else 'unknown'}")
        return
    live = [job for job in jobs if job.state is not JobState.SUPERSEDED]
    whole = any(job.slices == len(sent.sop_uids) for job in live)
    if one.state is SeriesState.READY and not whole:
        found.problems.append(f"series {sent.series_uid} is READY and has no job with all its slices")
    for job in live:
        name = f"job {job.state} {job.reason}".rstrip()
        found.states["delivered" if job.state is JobState.DONE else name] += 1
    if not live:
        found.states[f"series {one.state} {one.reason}"] += 1


def _destination(world: World, found: Findings) -> None:
    """The archive holds what the store says was delivered, each object once, and nothing else."""
    with world.store() as store:
        jobs = store.jobs()
        delivered = {
            (job.series_uid, d.role, d.sop_uid)
            for job in jobs
            for d in store.deliveries(job.job_id)
            if d.state in _DELIVERED
        }
    ask = world.orthanc.ask
    modality = {one["ID"]: one["MainDicomTags"]["Modality"] for one in ask("/series?expand")}
    study_of = {one["ID"]: one["ParentStudy"] for one in ask("/series?expand")}
    study = {one["ID"]: one["MainDicomTags"]["StudyInstanceUID"] for one in ask("/studies?expand")}
    series_of = {sent.study_uid: sent.series_uid for sent in world.series}
    there = [
        (
            series_of.get(study[study_of[one["ParentSeries"]]], "unknown"),
            modality[one["ParentSeries"]],
            one["MainDicomTags"]["SOPInstanceUID"],
        )
        for one in ask("/instances?expand")
    ]
    for series_uid, role, sop_uid in delivered - set(there):
        found.problems.append(
            f"{role} {sop_uid} of series {series_uid} is STORED here but not at the archive"
        )
    unproven = {(job.series_uid) for job in jobs if job.state in {JobState.FAILED, JobState.SUPERSEDED}}
    for series_uid, role, sop_uid in set(there) - delivered:
        if series_uid not in unproven:
            found.problems.append(f"{role} {sop_uid} at the archive was never delivered for {series_uid}")
    done = {
        job.series_uid: job for job in sorted(jobs, key=lambda j: j.created_at) if job.state is JobState.DONE
    }
    held = Counter((series_uid, role) for series_uid, role, _ in there)
    runs = Counter(job.series_uid for job in jobs if job.state is JobState.DONE)
    for series_uid in done:
        for role in _OBJECTS:
            if held[series_uid, role] != runs[series_uid]:
                found.problems.append(
                    f"series {series_uid}: {held[series_uid, role]} {role} there, not {runs[series_uid]}"
                )
    stored = world.stored_at_archive()
    found.counts |= {
        "objects at Orthanc": len(there),
        "duplicates at Orthanc": sum(max(0, count - runs[key[0]]) for key, count in held.items()),
        "stored again as the same object": len(stored) - len(set(stored)),
        "series delivered in more than one revision": sum(count > 1 for count in runs.values()),
    }


def _versions(world: World, found: Findings) -> None:
    """Exactly one version is live, and every job has kept one that exists: name and hash belong together."""
    with world.store() as store:
        known = {one.sha256: one for one in versions(store.database, FAMILY)}
        jobs = store.jobs()
        changes = [e.change for e in history(store.database, FAMILY) if e.change.endswith("-> LIVE")]
        runs = [run for one in known.values() for run in ShadowRuns(store.database).outcomes(one)]
    live = [one.bundle for one in known.values() if one.state is ModelState.LIVE]
    if len(live) != 1:
        found.problems.append(f"{len(live)} versions of the model are live")
    for job in jobs:
        names = tuple(known[sha256].bundle if sha256 in known else "unknown" for sha256 in job.models)
        if names != job.bundles:
            found.problems.append(f"job {job.job_id} names {job.bundles}, its hashes are those of {names}")
    found.counts["changes of the live version"] = len(changes)
    found.counts["scans compared in the shadow"] = sum(run.is_compared for run in runs)
    found.counts["versions that drew something"] = len({job.bundles for job in jobs})


def _database(world: World, found: Findings) -> None:
    """The database is sound, and nothing unfinished lies in the inbox."""
    path = world.data / "db" / "node.sqlite"
    if path.exists():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            ((answer,),) = connection.execute("PRAGMA integrity_check").fetchall()
        if answer != "ok":
            found.problems.append(f"the database is not sound: {answer}")
    left = list((world.data / "inbox").glob("*/*.part"))
    if left:
        found.problems.append(f"{len(left)} unfinished files lie in the inbox")
    quarantine = world.data / "quarantine"
    found.counts["unfinished files set aside"] = len(list(quarantine.iterdir())) if quarantine.exists() else 0
