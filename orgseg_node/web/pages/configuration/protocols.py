"""The editor of protocols: its text and a form for common settings, a trial on a case, and saving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orgseg_node.contouring.protocol_text import (
    DERIVED,
    GENERAL,
    ORGAN,
    add_organ,
    change_settings,
    remove_structure,
    settings_of_text,
    structures_in,
    typed_value,
)
from orgseg_node.errors import OptionInvalid, OrgsegError, ProtocolChanged, ProtocolInvalid
from orgseg_node.node.review.protocol_files import (
    NewText,
    ProtocolFile,
    checked_text,
    protocol_file,
    protocol_files,
    save_protocol,
)
from orgseg_node.node.review.trying import ProtocolTrier
from orgseg_node.node.users.roles import Action
from orgseg_node.organ_table import organ_table
from orgseg_node.web.case_content.images import OpenCase
from orgseg_node.web.case_content.report import OrganRow, organ_rows, report_of
from orgseg_node.web.case_content.trials import KeptTrial, drawn_places, second_lines
from orgseg_node.web.pages.guard import command, page
from orgseg_node.web.pages.headers import with_headers
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.visit import Visit, go_to

_LONGEST_FORM: Final = 400_000
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "others": ("keep", "drop"),
    "implausible": ("drop", "hold", "flag"),
    "profile": ("generic", "eclipse", "raystation", "monaco", "pinnacle"),
    "fill_holes": ("none", "2d", "3d"),
    "interpolate_slices": ("false", "true"),
    "type": ("ORGAN", "OAR", "AVOIDANCE", "CONTROL", "EXTERNAL", "CAVITY", "SUPPORT", "FIXATION"),
}


def protocol_routes(site: Site) -> list[Route]:
    """The list of protocols, the editor of one, and what the viewer fetches of a trial."""
    changes, sees = Action.CHANGE_PROTOCOLS, Action.SEE_PATIENTS
    return [
        page(site, "/node/protocols", Action.SEE_CONFIGURATION, _list),
        page(site, "/node/protocols/{key}", Action.SEE_CONFIGURATION, _open),
        command(site, "/node/protocols/{key}", changes, _do, longest_form=_LONGEST_FORM),
        page(site, "/trials/{token}", sees, _lines),
        page(site, "/trials/{token}/points", sees, _points),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Editing:
    """A protocol while a person edits it.

    Attributes
    ----------
    file : the protocol
    text : as it is now
    opened : SHA-256 of the file when it was opened
    job : case on which it is tried
    structure : index of the structure in the form; None for none
    problems : what is wrong with the text, line by line
    error : what a command met
    trial : the last trial of this text
    """

    file: ProtocolFile
    text: str
    opened: str
    job: str = ""
    structure: int | None = None
    problems: tuple[str, ...] = ()
    error: OrgsegError | None = None
    trial: KeptTrial | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of the form.

    Attributes
    ----------
    name : of the setting
    value : as typed
    choices : values of which one is chosen; empty for a text
    problems : what is wrong with it
    """

    name: str
    value: str
    choices: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=())


def _list(visit: Visit) -> Response:
    return visit.page(
        "protocols.html",
        {"here": "node", "done": visit.query("done"), "files": protocol_files(visit.site.config)},
    )


def _open(visit: Visit) -> Response:
    file = _file(visit)
    text, sha256 = file.read()
    editing = Editing(file=file, text=text, opened=sha256, job=visit.query("job"))
    return _page(visit, _judged(editing))


def _file(visit: Visit) -> ProtocolFile:
    return protocol_file(visit.site.config, str(visit.request.path_params["key"]))


def _do(visit: Visit) -> Response:
    """One of the buttons: each first takes the fields that were changed into the text."""
    form, file = visit.form, _file(visit)
    text = form.get("text", "").replace("\r\n", "\n")
    if text and not text.endswith("\n"):
        text += "\n"
    structure = form.get("structure", "")
    editing = Editing(
        file=file,
        text=text,
        opened=form.get("opened", ""),
        job=form.get("job", ""),
        structure=int(structure) if structure.isdecimal() and len(structure) < 5 else None,
    )
    try:
        editing = _with_fields(editing, form)
        done = form.get("do", "check")
        if done == "save":
            return _save(visit, editing)
        editing = _tried(visit, editing) if done == "try" else _changed(editing, done, form)
    except OrgsegError as error:
        editing = replace(editing, error=error)
    judged = _judged(editing)
    if judged.problems and isinstance(judged.error, ProtocolInvalid):
        judged = replace(judged, error=None)  # its lines stand below the text
    status = (
        409 if isinstance(judged.error, ProtocolChanged) else 422 if judged.problems or judged.error else 200
    )
    return _page(visit, judged, status)


def _with_fields(editing: Editing, form: Mapping[str, str]) -> Editing:
    """With the fields that differ from what they showed when the page was made."""
    text = editing.text
    for prefix, index in (("g", None), ("s", editing.structure)):
        changes = {
            name: form[f"{prefix}.{name}"]
            for name in (GENERAL if prefix == "g" else (*ORGAN, *DERIVED))
            if form.get(f"{prefix}.{name}") != form.get(f"was.{prefix}.{name}") and f"{prefix}.{name}" in form
        }
        if changes and index is not None and _named(text, index) != form.get("structure_is", ""):
            raise OptionInvalid("This structure was moved in the text meanwhile; open it again.")
        if changes and (prefix == "g" or index is not None):
            text = change_settings(text, changes, index)
    return replace(editing, text=text)


def _named(text: str, index: int) -> str:
    """By what a structure of the text is known; empty if there is none."""
    structures = structures_in(settings_of_text(text))
    one = structures[index] if index < len(structures) else {}
    return str(one.get("organ") or one.get("name") or "")


def _changed(editing: Editing, done: str, form: Mapping[str, str]) -> Editing:
    """After a button that changes the list of structures, or shows one of them in the form."""
    if done == "add" and form.get("organ", ""):
        text = add_organ(editing.text, form["organ"])
        return replace(editing, text=text, structure=len(structures_in(settings_of_text(text))) - 1)
    if done == "remove" and editing.structure is not None:
        return replace(editing, text=remove_structure(editing.text, editing.structure), structure=None)
    if done.startswith("edit-") and done[5:].isdecimal() and len(done) < 10:
        return replace(editing, structure=int(done[5:]))
    return editing


def _judged(editing: Editing) -> Editing:
    """With what is wrong with the text."""
    try:
        checked_text(editing.text)
    except ProtocolInvalid as error:
        lines = [line.strip() for line in error.detail.splitlines()]
        found = lines[1:] if len(lines) > 1 else lines
        return replace(editing, problems=tuple(found))
    return editing


def _tried(visit: Visit, editing: Editing) -> Editing:
    protocol, site = checked_text(editing.text), visit.site
    if not editing.job:
        raise OptionInvalid("Choose a case on which the protocol is tried.")
    with site.trials.turn():
        tried = ProtocolTrier(site.store, site.config.node.data_dir).try_on(editing.job, protocol)
    visit.saw(f"protocol {editing.file.title} tried on job {tried.job.job_id}")
    opened, organs = _case(visit, tried.job.job_id)
    lines = second_lines(tried, drawn_places(tried, opened, organs))
    return replace(editing, trial=site.trials.keep(visit.account.name, editing.text, tried, lines))


def _case(visit: Visit, job_id: str) -> tuple[OpenCase | None, list[OrganRow]]:
    """The images and delivered contours, if the person may see them, and the organs of the report."""
    site = visit.site
    job = site.store.job(job_id)
    report = report_of(site.config.node.data_dir / site.store.attempts.result_folder(job.job_id))
    opened = None
    if visit.may(Action.SEE_PATIENTS):
        try:
            opened = site.cases.open(site.store, site.config.node.data_dir, job)
        except OrgsegError:
            opened = None  # the numbers are shown without the pictures
    return opened, organ_rows(report, opened)


def _save(visit: Visit, editing: Editing) -> Response:
    site = visit.site
    trial = site.trials.last_of(visit.account.name, editing.text)
    how = f"tried on job {trial.tried.job.job_id}" if trial is not None else "not tried on a case"
    new = NewText(text=editing.text, opened=editing.opened, note=f"{how}; {visit.attribution()}")
    save_protocol(site.store, site.config.node.data_dir, editing.file, new)
    site.accounts.record(visit.account.name, "saved", f"protocol {editing.file.title}")
    site.parts.wakeup.trigger("models")  # the context of the next jobs
    return go_to("/node/protocols", "protocol-saved")


def _page(visit: Visit, editing: Editing, status: int = 200) -> Response:
    site, trial = visit.site, editing.trial
    opened, organs = _case(visit, trial.tried.job.job_id) if trial is not None else (None, [])
    content = settings_of_text(editing.text)
    table = organ_table()
    structures = structures_in(content)
    listed = {str(one.get("organ", "")) for one in structures}
    shown = {
        "here": "node",
        "editing": editing,
        "read_only": editing.file.read_only(),
        "cases": ProtocolTrier(site.store, site.config.node.data_dir).cases(),
        "identities": site.identities if visit.may(Action.SEE_PATIENTS) else None,
        "structures": [_row(one, table) for one in structures],
        "general": [_field(name, content, _at(editing, name)) for name in GENERAL],
        "fields": _fields(editing, structures),
        "structure_is": "" if editing.structure is None else _named(editing.text, editing.structure),
        "organs_left": [key for key in table if key not in listed],
        "trial": trial,
        "opened": opened,
        "has_viewer": opened is not None,
        "drawn": {} if trial is None else drawn_places(trial.tried, opened, organs),
        "why": visit.form.get("why", ""),
    }
    return visit.page("protocol.html", shown, status)


def _row(entry: Mapping[str, Any], table: Any) -> dict[str, str]:
    """A structure in the list: its name and what is set."""
    key = str(entry.get("organ", ""))
    known = table[key].name if key in table else key
    rest = {name: value for name, value in entry.items() if name not in {"organ", "name"}}
    settings = ", ".join(f"{name} {typed_value(value)}" for name, value in rest.items())
    return {"name": str(entry.get("name", known)), "organ": key, "settings": settings}


def _fields(editing: Editing, structures: list[Mapping[str, Any]]) -> list[Field]:
    if editing.structure is None or not 0 <= editing.structure < len(structures):
        return []
    entry = structures[editing.structure]
    names = DERIVED if "derive" in entry else ORGAN
    usable = [name for name in names if not isinstance(entry.get(name), dict)]
    place = f"structures.{editing.structure + 1}."
    return [_field(name, entry, _at(editing, f"{place}{name}")) for name in usable]


def _at(editing: Editing, place: str) -> tuple[str, ...]:
    """What is wrong at a place of the text."""
    return tuple(line for line in editing.problems if line.partition(":")[0] == place)


def _field(name: str, content: Mapping[str, Any], problems: tuple[str, ...]) -> Field:
    return Field(
        name=name, value=typed_value(content.get(name)), choices=_CHOICES.get(name, ()), problems=problems
    )


def _trial(visit: Visit) -> KeptTrial:
    return visit.site.trials.of(visit.account.name, str(visit.request.path_params["token"]))


def _lines(visit: Visit) -> Response:
    return with_headers(JSONResponse({"organs": _trial(visit).lines}))


def _points(visit: Visit) -> Response:
    return with_headers(Response(_trial(visit).tried.points, media_type="application/octet-stream"))
