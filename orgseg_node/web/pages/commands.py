"""Commands of persons on jobs and series: the same code as behind the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from orgseg_node.contouring.object_roles import CT
from orgseg_node.errors import JobRefuses, OptionInvalid
from orgseg_node.node.intake.conflicts import Keep, resolve
from orgseg_node.node.intake.judging_again import judge_again
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.processing.job_objects import planning_ct
from orgseg_node.node.review.dropping import OrganDropper
from orgseg_node.node.routing.decision import destinations_of
from orgseg_node.node.store.clock import utc_now
from orgseg_node.node.store.model import Job
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.users.roles import Action
from orgseg_node.web.pages.guard import command
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.steps import job_step, series_step
from orgseg_node.web.pages.visit import Visit, go_to, one_line

_MOST_MINUTES: Final = 7 * 24 * 60

JobCommand = Callable[[Visit, str], Job]
SeriesCommand = Callable[[Visit, str], None]


def command_routes(site: Site) -> list[Route]:
    """One address for each command on a job or a series."""
    return [
        *(_job_route(site, name, done) for name, done in JOB_COMMANDS.items()),
        *(_series_route(site, name, done) for name, done in SERIES_COMMANDS.items()),
    ]


def _job_route(site: Site, name: str, run: JobCommand) -> Route:
    def handler(visit: Visit) -> Response:
        job = visit.site.store.job(str(visit.request.path_params["job"]))
        _require_reason(visit, needed=job_step(job.job_id, name).needs_reason)
        done = run(visit, job.job_id)
        visit.site.accounts.record(visit.account.name, name, f"job {done.job_id}")
        _wake(visit)
        is_first = name == "approve" and _is_more_needed(visit, done)
        return go_to(f"/cases/{done.job_id}", "approve-more" if is_first else name)

    return command(site, f"/cases/{{job}}/{name}", Action.REVIEW, handler)


def _series_route(site: Site, name: str, run: SeriesCommand) -> Route:
    def handler(visit: Visit) -> Response:
        uid = visit.site.store.one_series(one_line(str(visit.request.path_params["series"]))).series_uid
        _require_reason(visit, needed=series_step(uid, name).needs_reason)
        run(visit, uid)
        visit.site.accounts.record(visit.account.name, name, f"series {uid}")
        _wake(visit)
        return go_to(f"/series/{uid}", name)

    return command(site, f"/series/{{series}}/{name}", Action.DECIDE_SERIES, handler)


def _is_more_needed(visit: Visit, job: Job) -> bool:
    """Whether further persons have to approve a job."""
    return len(JobCommands(visit.site.store).approvals(job)) < visit.site.config.review.persons


def _require_reason(visit: Visit, *, needed: bool) -> None:
    if needed and not visit.form.get("why", "").strip():
        raise OptionInvalid("This command needs a reason; it is kept in the history.")


def _wake(visit: Visit) -> None:
    """Let the node act at once; it would notice at its next cycle, too."""
    for task in ("dispatch", "judge"):
        visit.site.parts.wakeup.trigger(task)


def _resend(visit: Visit, job_id: str) -> Job:
    config, store = visit.site.config, visit.site.store
    job = store.job(job_id)
    chosen = visit.form.get("destination", "").strip()
    known = [name for name in destinations_of(config, job) if name in config.destinations]
    names = [chosen] if chosen else known
    roles = {name: config.destination(name).roles for name in names}
    if not roles:
        raise JobRefuses("None of its destinations is configured any more.")
    images = []
    if job.purged_at is None and any(CT in wanted for wanted in roles.values()):
        images = planning_ct(store, config.node.data_dir, job, store.attempts.objects(job_id))
    return JobCommands(store).resend(job_id, visit.attribution(), roles, images)


def _approve(visit: Visit, job_id: str) -> Job:
    seen = visit.form.get("seen", "")
    return JobCommands(visit.site.store).approve(
        job_id, visit.attribution(), visit.account.name, seen=int(seen) if seen.isdecimal() else None
    )


def _drop_organ(visit: Visit, job_id: str) -> Job:
    site = visit.site
    dropper = OrganDropper(site.store, site.config.node.data_dir, persons=site.config.review.persons)
    return dropper.drop(job_id, one_line(visit.form.get("organ", "")), visit.attribution()).job


def _choose(visit: Visit, uid: str) -> None:
    store = visit.site.store
    volume = one_line(visit.form.get("volume", ""))
    SeriesOverrides(store.database).choose(store.one_series(uid), volume, visit.attribution())


def _wait(visit: Visit, uid: str) -> None:
    text = visit.form.get("minutes", "").strip()
    if text and not text.isdecimal():
        raise OptionInvalid("The minutes are a whole number.")
    minutes = min(int(text[:6] or 0), _MOST_MINUTES)
    until = utc_now() + timedelta(minutes=minutes) if minutes else None
    SeriesOverrides(visit.site.store.database).wait(uid, visit.attribution(), until)


def _settle(visit: Visit, uid: str, keep: Keep) -> None:
    site = visit.site
    resolve(site.store, site.config.node.data_dir, uid, keep, visit.attribution())


JOB_COMMANDS: Final[Mapping[str, JobCommand]] = {
    "approve": _approve,
    "drop-organ": _drop_organ,
    "reject": lambda visit, job: JobCommands(visit.site.store).reject(job, visit.attribution()),
    "retry": lambda visit, job: JobCommands(visit.site.store).retry(job, visit.attribution()),
    "cancel": lambda visit, job: JobCommands(visit.site.store).cancel(job, visit.attribution()),
    "resend": _resend,
}
SERIES_COMMANDS: Final[Mapping[str, SeriesCommand]] = {
    "force": lambda v, uid: SeriesOverrides(v.site.store.database).force(uid, v.attribution()),
    "release": lambda v, uid: SeriesOverrides(v.site.store.database).release(uid, v.attribution()),
    "judge": lambda v, uid: judge_again(v.site.store, uid, v.attribution()),
    "choose": _choose,
    "wait": _wait,
    "settle-first": lambda v, uid: _settle(v, uid, Keep.FIRST),
    "settle-last": lambda v, uid: _settle(v, uid, Keep.LAST),
}
