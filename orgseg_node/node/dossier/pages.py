"""The pages of the dossier, each as Markdown or as a file of another kind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Final

from orgseg_node.contouring.report import versions as program_versions
from orgseg_node.durable import atomic_folder
from orgseg_node.errors import OrgsegError
from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dossier.blanks import MARK, blank, table
from orgseg_node.node.dossier.declaration import declaration
from orgseg_node.node.dossier.evidence import Evidence
from orgseg_node.node.dossier.model_card import model_card
from orgseg_node.node.dossier.packages import installed_packages
from orgseg_node.node.dossier.risks import load_risks, risk_page
from orgseg_node.node.feedback.charts import ALARMING, alarms, charts
from orgseg_node.node.feedback.model import OrganFeedback, OrganOutcome
from orgseg_node.node.feedback.pictures import draw_chart, picture_name
from orgseg_node.node.feedback.planners import planner_edits
from orgseg_node.node.feedback.rows import FeedbackRows
from orgseg_node.node.models.alias import find_named
from orgseg_node.node.models.version_rows import ModelVersion, versions
from orgseg_node.node.routing.revision import content_of, revision_of
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import ModelState
from orgseg_node.shipped import shipped_document

INDEX: Final = "00-index.md"
_FEW: Final = 20


def dossier_pages(config: NodeConfig, database: Database, evidence: Evidence, at: str) -> dict[str, bytes]:
    """The files of the dossier by name.

    Parameters
    ----------
    config : the node's configuration
    database : of the node
    evidence : results of tests and of commissioning
    at : date and time, as it is written on the first page
    """
    bundles, missing = _bundles(config, database)
    known = versions(database)
    texts: dict[str, str] = {}
    for bundle in bundles:
        version = next((one for one in known if one.sha256 == bundle.sha256), None)
        texts[f"01-model-cards/{bundle.manifest.name}.md"] = model_card(
            bundle, version, evidence.commissioned(bundle.sha256)
        )
    texts |= {f"02-gates/{one.bundle}.json": one.gate for one in known if one.gate}
    texts["03-feedback.md"] = _feedback_page(config, database)
    texts["04-risks.md"] = risk_page(load_risks(), evidence.tests)
    texts["05-versions.md"] = _versions_page(config, bundles, missing, known)
    texts["05-packages.csv"] = installed_packages()
    texts["05-conformance.md"] = shipped_document("conformance.md").read_text(encoding="utf-8")
    texts["05-configuration.json"] = json.dumps(content_of(config), indent=1, default=str)
    texts["06-declaration.md"] = declaration(bundles)
    pictures = {
        f"03-charts/{picture_name(one)}": draw_chart(one)
        for one in charts(database, config.feedback)
        if one.measure in ALARMING
    }
    reports = {f"02-commissioning/{name}": content for name, content in evidence.commissioning.items()}
    texts[INDEX] = _index(texts, pictures, reports, at)
    return {name: text.encode() for name, text in texts.items()} | pictures | reports


def _bundles(config: NodeConfig, database: Database) -> tuple[list[ModelBundle], list[str]]:
    """The bundles that jobs use now, and what is named and cannot be opened."""
    names = [*config.inference.bundles, *(name for rule in config.rule for name in rule.bundles or ())]
    live = [one.bundle for one in versions(database) if one.state is ModelState.LIVE]
    found: dict[str, ModelBundle] = {}
    missing = []
    for name in dict.fromkeys([*names, *live]):
        try:
            bundle = find_bundle(name, config.bundle_paths) if name in live else find_named(config, name)
            found[bundle.sha256] = bundle
        except OrgsegError as error:
            missing.append(f"{name}: {error.code}")
    return list(found.values()), missing


def _feedback_page(config: NodeConfig, database: Database) -> str:
    rows = FeedbackRows(database)
    sets = rows.all()
    states = Counter(one.state.value for one in sets)
    by_organ: dict[str, list[OrganFeedback]] = {}
    for organ in rows.counted_organs():
        if organ.organ:
            by_organ.setdefault(organ.organ, []).append(organ)
    organs = [_organ_row(key, found) for key, found in sorted(by_organ.items())]
    columns = (
        "organ",
        "cases",
        "kept unchanged",
        "deleted",
        "mean Dice",
        "mean surface Dice 2 mm",
        "mean HD95 mm",
    )
    raised = [(f"number {one.number}", one.subject, one.raised_at) for one in alarms(database)]
    fading = [
        (one.planner, one.organ, str(len(one.edits)))
        for one in planner_edits(database)
        if one.fading.is_fading
    ]
    counted = states.get("COUNTED", 0)
    few = (
        ""
        if counted >= _FEW
        else f"\n{counted} cases are too few for limits ({_FEW}); nothing can be concluded.\n"
    )
    listed = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"""# What came back

{len(sets)} structure sets came back: {listed or "none"}.
Baseline of the control charts: {config.feedback.baseline} cases. Pictures are in `03-charts/`.
{few}
{table(columns, organs)}
## Alarms

{table(("structure set", "what", "when"), raised)}
## Persons whose edits fade

{table(("person", "organ", "cases"), fading)}
Conclusions of the hospital: {blank("who looked at this, when, and what follows")}.
"""


def _organ_row(organ: str, found: list[OrganFeedback]) -> tuple[str, ...]:
    outcomes = Counter(one.outcome for one in found)
    measured = [one for one in found if one.is_measured]

    def mean(name: str, digits: int) -> str:
        values = [getattr(one, name) for one in measured if getattr(one, name) >= 0]
        return f"{fmean(values):.{digits}f}" if values else "-"

    return (
        organ, str(len(measured)), str(outcomes[OrganOutcome.UNCHANGED]), str(outcomes[OrganOutcome.DELETED]),
        mean("dice", 3), mean("surface_dice_2mm", 3), mean("hd95_mm", 1),
    )  # fmt: skip


def _versions_page(
    config: NodeConfig, bundles: list[ModelBundle], missing: list[str], known: list[ModelVersion]
) -> str:
    models = [(one.manifest.name, one.manifest.version, one.sha256) for one in bundles]
    history = [(one.family, one.bundle, one.state.value, one.sha256, one.note) for one in known]
    absent = f"Named and not usable: {'; '.join(missing)}." if missing else ""
    return f"""# Versions and hashes

{table(("program", "version"), list(program_versions().items()))}
Configuration in this file: revision `{revision_of(config)}` (`05-configuration.json`, without secrets).

## Models in use

{table(("bundle", "version", "SHA-256"), models)}
{absent}

## Versions of models

{table(("family", "bundle", "state", "SHA-256", "note"), history)}
## Software

`05-packages.csv` is the bill of materials of this installation: every installed package with version and
licence, and the SHA-256 of its list of files (RECORD), which has the hash of each file. The release has one
of the pinned packages as CycloneDX. `05-conformance.md` is the DICOM Conformance Statement of this version.
Hardware and operating system: {blank("server, graphics card, driver, operating system")}.
"""


def _index(
    texts: Mapping[str, str], pictures: Mapping[str, bytes], reports: Mapping[str, bytes], at: str
) -> str:
    rows = [(f"`{name}`", str(text.count(MARK))) for name, text in texts.items()]
    rows = sorted([*rows, *((f"`{name}`", "0") for name in reports)])
    total = sum(text.count(MARK) for text in texts.values())
    return f"""# Dossier of orgseg_node {program_versions()["orgseg_node"]}, {at}

Made by `orgseg dossier` from what the node knows. It holds no patient data. What only the hospital can say is
marked as a blank (search for `{MARK}`): {total} blanks. `03-charts/` has {len(pictures)} control charts.

{table(("file", "blanks"), rows)}"""


def write_dossier(pages: Mapping[str, bytes], out: Path) -> None:
    """Write the pages into a folder that does not exist yet, or is empty. Raises DiskFull or NotDurable."""
    with atomic_folder(out) as part:
        for name, content in pages.items():
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
