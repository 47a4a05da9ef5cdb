"""A case: its images with the delivered contours, organs, findings, history and objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orgseg_node.contouring.object_roles import IMAGE, RTSTRUCT, kind_of
from orgseg_node.errors import OrgsegError, ResultDeleted, ResultMissing
from orgseg_node.node.feedback.model import MEASURED, SENTENCES, Feedback, OrganFeedback
from orgseg_node.node.feedback.rows import FeedbackRows
from orgseg_node.node.operations.overview import Entry, overview
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.review.dropping import structures_of
from orgseg_node.node.routing.decision import destinations_of
from orgseg_node.node.store.clock import utc_now
from orgseg_node.node.store.model import Delivery, Job, JobState, OutputObject
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.store.source_answers import Answers
from orgseg_node.node.users.roles import Action
from orgseg_node.web.case_content.images import OpenCase
from orgseg_node.web.case_content.report import organ_rows, report_of, slices_of_findings
from orgseg_node.web.case_content.second_line import SecondLine, second_line
from orgseg_node.web.pages.guard import page
from orgseg_node.web.pages.headers import with_headers
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.steps import steps_of_job, steps_of_series
from orgseg_node.web.pages.visit import Visit, one_line

_DICOM: Final = "application/dicom"
_SUFFIX: Final = {".pdf": "application/pdf"}


def case_routes(site: Site) -> list[Route]:
    """The pages of a case and of a series, and what their viewer fetches."""
    sees = Action.SEE_PATIENTS
    return [
        page(site, "/cases/{job}", sees, _case),
        page(site, "/cases/{job}/state", sees, _state, live=True),
        page(site, "/cases/{job}/contours", sees, _contours),
        page(site, "/cases/{job}/points", sees, _points),
        page(site, "/cases/{job}/slices/{first:int}", sees, _slices),
        page(site, "/cases/{job}/slices/{first:int}/{count:int}", sees, _slices),
        page(site, "/cases/{job}/second/{number:int}", sees, _second),
        page(site, "/cases/{job}/second/{number:int}/points", sees, _second_points),
        page(site, "/cases/{job}/objects/{role}", sees, _object),
        page(site, "/series/{series}", sees, _series),
    ]


def _job(visit: Visit) -> Job:
    return visit.site.store.job(str(visit.request.path_params["job"]))


def _case(visit: Visit) -> Response:
    job = _job(visit)
    visit.saw(f"job {job.job_id}")
    return visit.page("case.html", _case_content(visit, job))


def _state(visit: Visit) -> Response:
    return visit.page("_case_state.html", _case_content(visit, _job(visit)))


def _case_content(visit: Visit, job: Job) -> dict[str, Any]:
    site, store = visit.site, visit.site.store
    series = store.one_series(job.series_uid)
    objects = store.attempts.objects(job.job_id)
    deliveries = store.deliveries(job.job_id)
    report = _report(visit, job)
    opened, problem = _opened(visit, job)
    organs = organ_rows(report, opened)
    names = tuple(name for name in destinations_of(site.config, job) if name in site.config.destinations)
    commands, revisions = JobCommands(store), store.attempts.revisions(job.job_id)
    approvals = commands.approvals(job) if job.state is JobState.REVIEW else []
    persons, own = site.config.review.persons, visit.account.name.strip().casefold()
    steps = steps_of_job(
        job,
        has_objects=bool(objects),
        destinations=names,
        structures=structures_of(report) if objects else (),
        is_approved=len(approvals) >= persons or own in {one.person for one in approvals},
    )
    entry = _entry(visit, job.job_id)
    return {
        "here": "cases",
        "job": job,
        "sentences": SENTENCES,
        "series": series,
        "identity": site.identities.of(job.series_uid),
        "objects": objects,
        "deliveries": [one for one in deliveries if not one.is_image],
        "images": _images(deliveries),
        "organs": organs,
        "findings": slices_of_findings(report, organs, opened),
        "report": report or {},
        "viewer_problem": problem,
        "has_viewer": opened is not None,
        "series_slices": opened.series.slices if opened is not None else (),
        "steps": [step for step in steps if visit.may(step.action)],
        "events": [one for one in store.events(job.job_id) if not one.note.startswith(IMAGE)],
        "needs_person": entry is not None and entry.needs_person,
        "returned": _returned(visit, job),
        "drawable": MEASURED,
        "others": [one for one in store.jobs_of(job.series_uid) if one.job_id != job.job_id],
        "done": visit.query("done"),
        "approvals": approvals,
        "persons": persons,
        "revisions": revisions,
        "seen": max((one.number for one in revisions), default=1),
    }


def _report(visit: Visit, job: Job) -> Mapping[str, Any] | None:
    """The report on the present objects of a job."""
    site = visit.site
    return report_of(site.config.node.data_dir / site.store.attempts.result_folder(job.job_id))


def _entry(visit: Visit, subject: str) -> Entry | None:
    entries = overview(visit.site.config, visit.site.store, utc_now())
    return next((one for one in entries if one.subject == subject), None)


def _opened(visit: Visit, job: Job) -> tuple[OpenCase | None, OrgsegError | None]:
    """The opened case, or why it cannot be shown; the rest of the page is shown anyway."""
    try:
        return visit.site.cases.open(visit.site.store, visit.site.config.node.data_dir, job), None
    except OrgsegError as error:
        return None, error


def _returned(visit: Visit, job: Job) -> list[tuple[Feedback, list[OrganFeedback]]]:
    """The structure sets that came back for a job, with the measures of their organs."""
    rows = FeedbackRows(visit.site.store.database)
    return [(one, rows.organs(one.number)) for one in rows.all(job_id=job.job_id)]


def _images(deliveries: list[Delivery]) -> dict[str, int]:
    """How many images of the CT each destination gets."""
    counts: dict[str, int] = {}
    for one in deliveries:
        if one.is_image:
            counts[one.destination] = counts.get(one.destination, 0) + 1
    return counts


def _contours(visit: Visit) -> Response:
    case = _open(visit)
    response = JSONResponse(case.description())
    return with_headers(response)


def _points(visit: Visit) -> Response:
    return with_headers(Response(_open(visit).points(), media_type="application/octet-stream"))


def _slices(visit: Visit) -> Response:
    """One slice, or several neighbouring ones."""
    first, count = (int(visit.request.path_params.get(name, 1)) for name in ("first", "count"))
    content = visit.site.cases.planes(_open(visit), first, count)
    return with_headers(Response(content, media_type="application/octet-stream"))


def _open(visit: Visit) -> OpenCase:
    role = visit.query("role") or RTSTRUCT
    return visit.site.cases.open(visit.site.store, visit.site.config.node.data_dir, _job(visit), role)


def _second(visit: Visit) -> Response:
    return with_headers(JSONResponse(_second_line(visit).description()))


def _second_points(visit: Visit) -> Response:
    return with_headers(Response(_second_line(visit).points(), media_type="application/octet-stream"))


def _second_line(visit: Visit) -> SecondLine:
    """A structure set that came back for the job, which the address names by its number."""
    site, job, number = visit.site, _job(visit), int(visit.request.path_params["number"])
    rows = FeedbackRows(site.store.database)
    feedback = next((one for one in rows.all(job_id=job.job_id) if one.number == number), None)
    if feedback is None:
        raise ResultMissing("No structure set of this number came back for the case.")
    data = site.config.node.data_dir
    organs = (_report(visit, job) or {}).get("organs", [])
    keys = {str(one["name"]): str(one["key"]) for one in organs}
    role = feedback.role or RTSTRUCT
    opened = site.cases.open(site.store, data, job, role)
    return second_line(opened, data / feedback.path, feedback, rows.organs(number), keys)


def _object(visit: Visit) -> Response:
    """A written object as a file; it is found by its role in the database, never by a path."""
    job, role = _job(visit), str(visit.request.path_params["role"])
    found = next((one for one in visit.site.store.attempts.objects(job.job_id) if one.role == role), None)
    if found is None:
        raise ResultMissing("It has no object of this role.")
    content = _read(visit, job, found)
    visit.saw(f"{role} of job {job.job_id}, downloaded")
    response = with_headers(Response(content, media_type=_DICOM))
    name = f"{kind_of(role)}-{job.job_id}.dcm"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _read(visit: Visit, job: Job, found: OutputObject) -> bytes:
    if job.purged_at is not None:
        raise ResultDeleted
    try:
        return (visit.site.config.node.data_dir / found.path).read_bytes()
    except FileNotFoundError:
        raise ResultDeleted from None


def _series(visit: Visit) -> Response:
    site, store = visit.site, visit.site.store
    series = store.one_series(one_line(str(visit.request.path_params["series"])))
    uid = series.series_uid
    visit.saw(f"series {uid}")
    overrides = SeriesOverrides(store.database)
    override, volumes = overrides.all().get(uid), overrides.volumes(series)
    waits = override is not None and override.holds(utc_now())
    steps = steps_of_series(series, _entry(visit, uid), waits=waits, volumes=volumes)
    content: Mapping[str, Any] = {
        "here": "cases",
        "series": series,
        "identity": site.identities.of(uid),
        "override": override,
        "known": Answers(store.database).of(series),
        "jobs": store.jobs_of(uid),
        "events": store.events(uid),
        "steps": [step for step in steps if visit.may(step.action)],
        "done": visit.query("done"),
    }
    return visit.page("series.html", dict(content))
