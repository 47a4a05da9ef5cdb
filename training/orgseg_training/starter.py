"""The starter bundle, from public data to a trained and measured model; every step can be run again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from orgseg_training.datasets.openkbp import LABELS, Case, read_cases
from orgseg_training.nnunet.run import Machine, Workspace, plan_and_preprocess, train
from orgseg_training.preparing import cases_for, write_raw_dataset
from orgseg_training.recipe import Recipe


def train_starter(recipe: Recipe, data: Path, workspace: Workspace, machine: Machine) -> None:
    """Train every part of a recipe on the unlocked patients of OpenKBP.

    Parameters
    ----------
    recipe : what to train
    data : folder of the data set
    workspace : where nnU-Net's folders are; steps already finished there are not repeated
    machine : what it is trained on
    """
    cases = read_cases(data)
    watched = watched_patients(recipe, cases)
    by_name = {part.name: part for part in recipe.parts}
    for part in recipe.parts:
        donor = by_name[part.warm_start] if part.warm_start else None
        usable = cases_for(part.organs, cases)
        dataset = part.dataset
        write_raw_dataset(workspace.raw / dataset.folder, part.organs, usable, recipe.body_margin_mm)
        split = {
            "train": [case.name for case in usable if case.name not in watched],
            "val": [case.name for case in usable if case.name in watched],
        }
        given = donor.dataset if donor else None
        plan_and_preprocess(workspace, dataset, [split], recipe.shape(part), given)
        train(workspace, dataset, recipe.schedule(part, donor), machine)


def watched_patients(recipe: Recipe, cases: Sequence[Case]) -> frozenset[str]:
    """The patients for validation: unlocked, with every organ drawn, the same for all parts."""
    complete = [case.name for case in cases_for(LABELS, cases)]
    chosen = random.Random(recipe.seed).sample(sorted(complete), recipe.validation_cases)  # noqa: S311 - no secret
    return frozenset(chosen)
