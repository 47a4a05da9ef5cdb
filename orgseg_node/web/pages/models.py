"""Versions of models: which is live, how far the shadow agrees, what happened, the way back."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from orgseg_node.errors import OptionInvalid
from orgseg_node.inference.bundles.bundle import list_bundles
from orgseg_node.node.models import version_rows
from orgseg_node.node.models.agreement import report_agreement
from orgseg_node.node.models.registry import ModelRegistry
from orgseg_node.node.models.shadow_status import shadow_status
from orgseg_node.node.models.version_rows import ModelVersion
from orgseg_node.node.store.model import ModelState
from orgseg_node.node.users.roles import Action
from orgseg_node.web.pages.guard import command, page
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.visit import Visit, go_to


def models_routes(site: Site) -> list[Route]:
    """The page of the models, and its commands."""
    changes = Action.CHANGE_MODELS
    return [
        page(site, "/models", Action.SEE_MODELS, _models),
        command(site, "/models/{family}/rollback", changes, _roll_back),
        command(site, "/models/{family}/end-shadow", changes, _end_shadow),
    ]


def _models(visit: Visit) -> Response:
    site, database = visit.site, visit.site.store.database
    versions = version_rows.versions(database)
    bundles = list_bundles(site.config.bundle_paths)
    families: dict[str, dict[str, Any]] = {}
    for one in versions:
        family = families.setdefault(
            one.family, {"versions": [], "live": None, "shadow": None, "before": None}
        )
        family["versions"].append(one)
        if one.state is ModelState.LIVE:
            family["live"] = one
        if one.state is ModelState.SHADOW:
            status = shadow_status(database, one, site.config.models.shadow_cases)
            family["shadow"] = {"status": status, "organs": report_agreement(status.runs)}
    for family in families.values():
        live = family["live"]
        earlier = [one for one in family["versions"] if live is not None and one.sha256 == live.replaces]
        family["before"] = earlier[0] if earlier else None
        family["gate"] = _gate(live) if live is not None else None
    content = {
        "here": "models",
        "families": families,
        "bundles": bundles,
        "used": set(site.config.inference.bundles),
        "events": list(reversed(version_rows.history(database)))[:100],
        "signatures": site.config.models.signatures,
        "done": visit.query("done"),
        "may_change": visit.may(Action.CHANGE_MODELS),
    }
    return visit.page("models.html", content)


def _gate(version: ModelVersion) -> dict[str, Any] | None:
    """Verdict and reasons of the gate file with which a version became live."""
    try:
        gate = json.loads(version.gate) if version.gate else None
    except ValueError:
        return None
    if not isinstance(gate, dict):
        return None
    content = gate.get("content", gate)
    reasons = content.get("reasons", []) if isinstance(content, dict) else []
    verdict = content.get("verdict", "") if isinstance(content, dict) else ""
    return {"verdict": str(verdict), "reasons": [str(one) for one in reasons][:5]}


def _roll_back(visit: Visit) -> Response:
    family = str(visit.request.path_params["family"])
    if not visit.form.get("why", "").strip():
        raise OptionInvalid("This command needs a reason; it is kept in the history.")
    ModelRegistry(visit.site.config, visit.site.store).roll_back(family, visit.attribution())
    visit.site.accounts.record(visit.account.name, "rollback", f"models {family}")
    visit.site.parts.wakeup.trigger("judge")
    return go_to("/models", "rollback")


def _end_shadow(visit: Visit) -> Response:
    family = str(visit.request.path_params["family"])
    ModelRegistry(visit.site.config, visit.site.store).end_shadow(family, visit.attribution())
    visit.site.accounts.record(visit.account.name, "end-shadow", f"models {family}")
    return go_to("/models", "end-shadow")
