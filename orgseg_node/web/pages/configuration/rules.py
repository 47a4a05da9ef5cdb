"""The rules tester: which rule decides about a series or a typed header, and why no earlier one does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from orgseg_node.errors import ConfigError, OptionInvalid, OrgsegError, RuleUndecided
from orgseg_node.node.config.rules import DEFAULT
from orgseg_node.node.routing.decision import ae_titles_of
from orgseg_node.node.routing.explain import (
    check_references,
    conditions_of,
    explain_files,
    explain_header,
    explanation_document,
    outcome_of,
)
from orgseg_node.node.routing.typed_header import typed_header
from orgseg_node.node.users.roles import Action
from orgseg_node.web.pages.guard import command, page
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.visit import Visit, one_line

_EXAMPLE: Final = "Modality = CT\nBodyPartExamined = HEADNECK\nStudyDescription = "
_MOST_SLICES: Final = 100_000


def rules_routes(site: Site) -> list[Route]:
    """The page of the rules, and its test of a typed header."""
    sees = Action.SEE_CONFIGURATION
    return [page(site, "/node/rules", sees, _show), command(site, "/node/rules", sees, _try)]


def _show(visit: Visit) -> Response:
    """The rules; with ``series`` in the address also what they decide about it."""
    uid = visit.query("series")
    if not uid:
        return _page(visit, {"called": visit.site.config.node.ae_title})
    site = visit.site
    try:
        series = site.store.find_series(uid)
        instances = site.store.instances_of(series.series_uid)
        files = [site.config.node.data_dir / one.path for one in instances]
        found = explain_files(site.config, files, **ae_titles_of(series))
    except OrgsegError as error:
        return _page(visit, {"series": uid}, problem=error)
    documents = [
        {
            **explanation_document(one.explanation, values=False),
            "images": one.images,
            "state": one.verdict.state.value,
            "note": "" if one.verdict.reason == RuleUndecided.code else one.verdict.note,
            "is_undecided": one.verdict.reason == RuleUndecided.code,
        }
        for one in found
    ]
    return _page(visit, {"series": series.series_uid}, documents=documents)


def _try(visit: Visit) -> Response:
    form = visit.form
    asked = {name: one_line(form.get(name, ""))[:64] for name in ("calling", "called", "slices")}
    text = form.get("header", "")[:10_000]
    try:
        number = asked["slices"] or "100"
        if not number.isdecimal() or len(number) > 6 or not 0 < int(number) <= _MOST_SLICES:
            raise OptionInvalid("The number of images is a whole number from 1 on.")
        found = explain_header(
            visit.site.config,
            typed_header(text),
            int(number),
            called_ae=asked["called"],
            calling_ae=asked["calling"],
        )
    except OrgsegError as error:
        return _page(visit, asked, problem=error, header=text)
    document = {
        **explanation_document(found, values=True),
        "images": int(number),
        "state": "",
        "note": "",
        "is_undecided": found.decision.undecided,
    }
    return _page(visit, asked, documents=[document], header=text)


def _page(
    visit: Visit,
    asked: Mapping[str, str],
    *,
    documents: list[dict[str, Any]] | None = None,
    problem: OrgsegError | None = None,
    header: str = _EXAMPLE,
) -> Response:
    """The page, with what was asked before in its fields."""
    config = visit.site.config
    try:
        check_references(config)
        missing = ""
    except ConfigError as error:
        missing = error.sentence
    rules = [(conditions_of(rule), outcome_of(rule)) for rule in config.rule]
    content: dict[str, Any] = {
        "here": "node",
        "rules": rules,
        "default": DEFAULT,
        "otherwise": config.rules.otherwise,
        "documents": documents or [],
        "problem": problem,
        "missing": missing,
        "header": header,
        "asked": {"called": "", "calling": "", "slices": "100", "series": "", **asked},
    }
    return visit.page("rules.html", content, 200 if problem is None else 422)
