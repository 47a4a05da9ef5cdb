"""From trained networks to a bundle with a measured model card."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import BundleExists
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_training.datasets.openkbp import Case
from orgseg_training.nnunet.run import Workspace
from orgseg_training.recipe import Recipe
from orgseg_training.starter import watched_patients
from orgseg_training.starter_evaluation import Score, evaluate, summary_table, write_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is exported, and with what.

    Attributes
    ----------
    recipe : what was trained
    workspace : where the trained networks are
    organs : the organ table
    settings : how the network is run while it is measured
    """

    recipe: Recipe
    workspace: Workspace
    organs: OrganTable
    settings: InferenceSettings

    def write(self, target: Path, priorities: Mapping[str, float], card: str) -> ModelBundle:
        """Write a bundle with half-precision weights."""
        parts = [
            PartDraft(
                folder=self.workspace.trained(part.dataset),
                label_map=dict(enumerate(part.organs, 1)),
                priority={organ: priorities[organ] for organ in part.organs if organ in priorities},
                folds=(0,),
                configuration="3d_fullres",
                name=part.name,
            )
            for part in self.recipe.parts
        ]
        draft = BundleDraft(
            name=self.recipe.name,
            version=self.recipe.version,
            title=self.recipe.title,
            intended_use=self.recipe.intended_use,
            trained_on=self.recipe.trained_on,
            licence=self.recipe.licence,
            card=card,
            preprocessing=Preprocessing(outside_to_air=True, body_margin_mm=self.recipe.body_margin_mm),
            mirroring=False,
        )
        return export_trained(parts, draft, target, half_precision=True)

    def scores(self, bundle: ModelBundle, cases: Iterable[Case]) -> tuple[Score, ...]:
        """Measure a bundle through the node's own predictor."""
        return evaluate(load_predictor(bundle, self.organs, self.settings), cases)


def export_bundle(export: Export, cases: Sequence[Case], target: Path) -> tuple[Score, ...]:
    """Rank the organs on the validation patients, measure on the locked ones, write the bundle.

    Where two networks claim a voxel the organ with the higher validation Dice gets it, as in the study's
    completion step. The locked patients are used once, for the card.

    Returns
    -------
    The scores on the locked patients, also written beside the bundle's workspace.

    Raises
    ------
    BundleExists
        If the target is there.
    """
    if target.exists():
        raise BundleExists(f"'{target.name}' is there.")
    trials = export.workspace.root / "export"
    number = sum(1 for _ in trials.iterdir()) if trials.is_dir() else 0
    unranked = export.write(trials / f"{number:03d}_unranked", {}, "Not ranked yet.")
    watched = watched_patients(export.recipe, cases)
    ranking = _means(export.scores(unranked, [case for case in cases if case.name in watched]))
    ranked = export.write(trials / f"{number:03d}_ranked", ranking, "Not measured yet.")
    scores = export.scores(ranked, [case for case in cases if case.locked])
    write_scores(scores, export.workspace.root / "locked_scores.csv")
    export.write(target, ranking, _card(export.recipe, scores))
    return scores


def _means(scores: Sequence[Score]) -> dict[str, float]:
    organs = {score.organ for score in scores}
    return {o: round(statistics.mean(s.dice for s in scores if s.organ == o), 4) for o in sorted(organs)}


def _card(recipe: Recipe, scores: Sequence[Score]) -> str:
    patients = len({score.case for score in scores})
    return f"""# {recipe.title} {recipe.version}

**{recipe.intended_use}**

{recipe.trained_on}

Licence: {recipe.licence}

Contours are automatic and unreviewed; they become a plan's contours only when a person has approved them.

## What it finds

{", ".join(organ for part in recipe.parts for organ in part.organs)}

## How good it is

Dice on {patients} patients of the challenge's own test split, locked before training and measured once,
through the node's own body contour and predictor, on the resolution of the data (about 4 mm in plane).
Organs that were not drawn in a patient are not counted there.

{summary_table(scores)}

## Limits

* The data are coarse (3.8 to 5.4 mm in plane), and everything outside the patient was blank.
* Where the spinal cord and the oesophagus begin and end follows the habits of the contributing clinics.
* Adults with head-and-neck cancer only; no children.
"""
