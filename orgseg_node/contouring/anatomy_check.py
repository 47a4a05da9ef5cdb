"""Whether the organs of a result look like organs: judged after they were tidied, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orgseg_node.contouring.label_export import on_grid
from orgseg_node.core.anatomy.plausibility import Comparison, Judgement, judge_organs
from orgseg_node.core.anatomy.reference import AnatomyReference
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.body import Body
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.predictor import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class AnatomyRules:
    """What organs are compared with.

    Attributes
    ----------
    references : reference anatomy of models, by the SHA-256 of the bundle
    """

    references: Mapping[str, AnatomyReference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBy:
    """What a judge has to know about the networks that found the organs.

    Attributes
    ----------
    models : SHA-256 of each bundle
    agreement : mean Dice of the folds of an ensemble, by organ
    """

    models: tuple[str, ...] = ()
    agreement: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, prediction: Prediction) -> FoundBy:
        """Of the result of the networks."""
        agreement: dict[str, float] = {}
        for row in prediction.disagreement:
            agreement[row.organ] = min(row.mean_dice, agreement.get(row.organ, 1.0))
        return cls(models=tuple(model.sha256 for model in prediction.models), agreement=agreement)


def organ_judge(
    rules: AnatomyRules, scan: tuple[Volume, Body], found_by: FoundBy, age_years: float | None
) -> Callable[[LabelMap], Judgement]:
    """The judge of the organs of a result; see `apply_protocol`.

    Parameters
    ----------
    rules : what the organs are compared with
    scan : CT in HU, and the patient in it
    found_by : the networks
    age_years : of the patient; None if not known
    """
    volume, body = scan
    comparison = Comparison(
        populations=[
            rules.references[sha256].population(age_years)
            for sha256 in found_by.models
            if sha256 in rules.references
        ],
        agreement=found_by.agreement,
    )
    working = WorkingGrid(volume.grid, volume.hu, body.mask)
    return lambda label_map: judge_organs(on_grid(label_map, volume.grid), working, comparison)
