"""The model card of a bundle by the sections of AID-RT (Phys. Imaging Radiat. Oncol. 2026, 100940)."""

from __future__ import annotations

import json
from typing import Any

from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.node.dossier.blanks import blank, table
from orgseg_node.node.models.version_rows import ModelVersion


def model_card(bundle: ModelBundle, version: ModelVersion | None, commissioned: str) -> str:
    """The card as Markdown.

    Parameters
    ----------
    bundle : as it is installed
    version : as the node knows it; None for a bundle that is no version of a family
    commissioned : what the commissioning with own patients says; empty if there was none with this bundle
    """
    manifest = bundle.manifest
    parts = [
        (part.folder, part.configuration, ", ".join(part.folds), ", ".join(part.labels.values()))
        for part in manifest.parts
    ]
    state = f"{version.state} in family {version.family}; {version.note}" if version else "named directly"
    card = (bundle.path / manifest.card).read_text(encoding="utf-8", errors="replace")
    return f"""# Model card: {manifest.name} {manifest.version}

## 1. Card

Bundle `{manifest.name}`, version {manifest.version}, SHA-256 `{bundle.sha256}`. State on this node: {state}.
Written by: {blank("name and role")}. Approved by: {blank("name, role, date")}.

## 2. Basics

{manifest.title}. Intended use: {manifest.intended_use}
Licence of the weights: {manifest.licence}. Use in this hospital: {blank("sites, techniques, who reviews")}.

## 3. Technical

{table(("part", "configuration", "folds", "organs"), parts)}
Preparation: orientation {manifest.preprocessing.orientation}, outside of the body set to air:
{_yes(manifest.preprocessing.outside_to_air)}. Mirroring: {_yes(manifest.mirroring)}.
Tile step: {manifest.tile_step_size:g}.

## 4. Training data

{manifest.trained_on}

## 5. Evaluation and commissioning

{_gate(version)}

Own commissioning with own patients: {commissioned or blank("report of the local commissioning")}
Who looked at it, what follows: {blank("name, date, conclusions for each organ")}.

## 6. Other: ethics, risk, monitoring

Risks: see `04-risks.md`. Monitoring: see `03-feedback.md`.
Ethics and consent: {blank("decision of the hospital")}.

## Card of the bundle, as its maker wrote it

{card}
"""


def _gate(version: ModelVersion | None) -> str:
    """What the gate says by which a version became live."""
    if version is None or not version.gate:
        return "No gate file: this node knows no measured comparison with an earlier version."
    try:
        content: dict[str, Any] = json.loads(version.gate)
    except ValueError:
        return "Its gate file cannot be read."
    reasons = " ".join(map(str, content.get("reasons", ())))
    return f"Gate: {content.get('verdict', 'unknown')}. {reasons} The whole gate file is in `02-gates/`."


def _yes(value: bool) -> str:  # noqa: FBT001  # a value to be printed
    return "yes" if value else "no"
