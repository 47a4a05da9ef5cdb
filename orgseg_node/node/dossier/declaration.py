"""The template of the declaration for a device that is made and used within a hospital (MDR Article 5(5))."""

from __future__ import annotations

from collections.abc import Sequence

from orgseg_node.contouring.report import versions
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.node.dossier.blanks import blank


def declaration(bundles: Sequence[ModelBundle]) -> str:
    """The template as Markdown, after MDCG 2023-1, Annex A; the hospital fills every blank."""
    uses = "\n".join(
        f"* {one.manifest.name} {one.manifest.version}: {one.manifest.intended_use}" for one in bundles
    )
    organs = sorted({organ for one in bundles for organ in one.manifest.organs})
    requirements = blank("checklist of Annex I, and justification where not fully met")
    return f"""# Declaration for a device made and used in-house (template)

After MDCG 2023-1, Annex A, for Regulation (EU) 2017/745, Article 5(5). A template: the program fills in only
what it knows; whether the article applies is for the hospital to decide. Every blank must be filled, and the
page signed.

1. Health institution: {blank("name, address")}
2. Device: orgseg_node {versions()["orgseg_node"]}, with the models below; identification within the
   institution: {blank("number")}
3. Intended purpose: {blank("statement of the hospital")}. The models state:

{uses or "No model is in use."}

4. Organs: {", ".join(organs) or "none"}
5. Class by Annex VIII: {blank("class and rule")}
6. Why no equivalent device on the market serves the needs of the patients: {blank("justification")}
7. General safety and performance requirements: {requirements}
8. Quality management system under which it is made and used: {blank("system, certificate")}
9. Risk management: `04-risks.md`; benefit and risk: {blank("review")}
10. Experience in clinical use, and corrective action: `03-feedback.md`; {blank("reviewer, interval")}
11. The device is not transferred to another legal entity: {blank("confirmation")}

{blank("place, date, name and signature of the responsible person")}
"""
