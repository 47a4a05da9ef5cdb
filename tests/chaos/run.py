"""One kill test from start to end: send, kill, calm down, count."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil

from orgseg_node.errors import UnknownVersion
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.models.registry import ModelRegistry
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import JobState
from orgseg_node.node.store.store import Store
from tests.chaos.checker import Findings, check, settled
from tests.chaos.killer import Killer
from tests.chaos.supervisor import until
from tests.chaos.world import World, answers, listening, processes_of
from tests.support.node.model_bench import FAMILY

_HANDLES = 24
"""So many more open files than after a fresh start are no leak: connections of threads, logs, sockets."""


@dataclass(kw_only=True)
class Report:
    """What a run did and found."""

    findings: Findings
    killer: Killer
    seconds: float
    lines: dict[str, object] = field(default_factory=dict)

    def text(self) -> str:
        """The counts, and the summary line last."""
        found, kills = self.findings, self.killer.kills
        rows = [f"  {name:48s} {value}" for name, value in (found.counts | self.lines).items()]
        rows += [f"  ended: {name:41s} {count}" for name, count in sorted(found.states.items())]
        rows += [f"  kills: {name:41s} {count}" for name, count in sorted(kills.items())]
        rows += [f"PROBLEM {problem}" for problem in found.problems]
        counts = found.counts
        verdict = "LOST" if found.problems else "OK"
        delivered, doubled = found.states["delivered"], counts["duplicates at Orthanc"]
        summary = (
            f"{verdict}: {counts['series']} series, {counts['instances']} instances,"
            f" {counts['acknowledged']} acknowledged, {kills.total()} kills, {delivered} series delivered,"
            f" {doubled} duplicates, {len(found.problems)} problems, {self.seconds:.0f} s"
        )
        return "\n".join([*rows, summary])


def run(world: World, *, kills: int, seed: int, limit_s: float) -> Report:
    """Send everything while killing so often; then let the node finish, and check.

    Raises
    ------
    TimeoutError
        If the node does not come to rest after the last kill.
    """
    begun = time.monotonic()
    killer = Killer(world, seed)
    baseline = _handles(world)
    world.send()
    world.operate()
    while killer.kills.total() < kills and time.monotonic() - begun < limit_s:
        time.sleep(killer.pause())
        if world.cluster is not None and killer.kills.total() >= kills // 2:
            killer.for_good(world.nodes[-1])
        what = killer.strike()
        print(f"{time.monotonic() - begun:7.1f} s  {killer.kills.total():4d}  {what}", flush=True)
    calm = time.monotonic()
    _end_shadow(world)
    problems = _come_to_rest(world)
    retried = _press_retry(world)
    ended = sum((process.ended for process in world.supervisor.processes), Counter[str]())
    lines: dict[str, object] = {
        **{f"ended by itself, as it should: {why}": n for why, n in ended.items()},
        "restarts": sum(process.starts - 1 for process in world.supervisor.processes),
        "jobs a person had to start again": retried,
        "seconds of killing, and of calm": f"{calm - begun:.0f} + {time.monotonic() - calm:.0f}",
    }
    problems += _resources(world, baseline, lines)
    problems += _orderly_stop(world)
    until(lambda: answers(world.orthanc), 30, "Orthanc answers")
    findings = check(world)
    if killer.kills.total() < kills:
        problems.append(f"only {killer.kills.total()} of {kills} kills within {limit_s:.0f} s")
    findings.problems += problems
    return Report(findings=findings, killer=killer, seconds=time.monotonic() - begun, lines=lines)


def _end_shadow(world: World) -> None:
    """Send the person home who promotes versions; what runs in the shadow is no longer wanted."""
    if world.operator is not None:
        world.operator.kill(for_good=True)
    database = Database(world.place)
    try:
        with contextlib.suppress(UnknownVersion), contextlib.closing(Store(database)) as store:
            config = NodeConfig.model_validate({"receiver": {"accept_any_calling_ae": True}})
            ModelRegistry(config, store).end_shadow(FAMILY, "by the test")
    finally:
        database.close()


def _come_to_rest(world: World) -> list[str]:
    """Wait until senders and node have nothing to do; what does not end is a problem."""
    limit = 120 + 20 * world.size.series
    try:
        until(lambda: all(sender.done for sender in world.senders), limit, "the senders end")
        until(lambda: any(listening(node) for node in world.nodes), 60, "the node listens")
        until(lambda: settled(world), limit, "every series and job comes to an end", every_s=0.5)
    except TimeoutError as error:
        return [f"not at rest: {error}"]
    return []


def _press_retry(world: World) -> int:
    """What a person would do with jobs that died too often: start them again, once."""
    with world.store() as store:
        failed = store.jobs(states={JobState.FAILED})
    with contextlib.closing(Store(Database(world.place))) as store:
        for job in failed:
            store.retry(job.job_id)
    if failed:
        _come_to_rest(world)
    return len(failed)


def _handles(world: World) -> int:
    """Open files and sockets of the node's processes."""
    return sum(psutil.Process(node.pid).num_fds() for node in world.nodes if node.pid is not None)


def _resources(world: World, baseline: int, lines: dict[str, object]) -> list[str]:
    """Whether the node at rest holds more than a fresh one."""
    problems = [
        f"{process.name} died by itself: {process.own_deaths}"
        for process in world.supervisor.processes
        if process.own_deaths
    ]
    time.sleep(1.0)
    now = _handles(world)
    lines["file handles after start, and at the end"] = f"{baseline}, {now}"
    if now > baseline + _HANDLES:
        problems.append(f"the node holds {now} file handles at rest, {baseline} after its start")
    if world.children():
        problems.append(f"{len(world.children())} children live on with nothing to contour")
    return problems


def _orderly_stop(world: World) -> list[str]:
    """The node ends after a stop signal and leaves no process behind."""
    ends = [(node.name, node.stop()) for node in world.nodes if node.pid is not None]
    problems = [f"{name} ended with status {status} after a stop signal" for name, status in ends if status]
    try:
        until(lambda: not _orphans(world), 10, "every process of the node is gone")
    except TimeoutError:
        problems += [f"process {process.pid} was left behind" for process in _orphans(world)]
    return problems


def _orphans(world: World) -> list[psutil.Process]:
    return [p for p in processes_of(world.folder) if p.pid != world.archive.pid]
