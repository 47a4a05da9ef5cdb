"""Scans with reference contours, run through the node's own predictor: per-case results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from orgseg_node.core.body import find_body
from orgseg_node.core.geometry import Vector
from orgseg_node.core.metrics import compare
from orgseg_node.core.volume import LabelMap
from orgseg_node.inference.predictor import Predictor
from orgseg_training.datasets.case import Mask, SourceCase
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.evaluation.results import CaseScore
from orgseg_training.evaluation.scoring import Tolerances

_CHILD_YEARS = 18.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How predictions are scored.

    Attributes
    ----------
    model, subset : written into every line
    tolerances : of the surface Dice
    """

    model: str
    subset: str = "test"
    tolerances: Tolerances = field(default_factory=Tolerances)

    def compare(
        self,
        case: SourceCase | StoredCase,
        found: LabelMap,
        references: Iterable[tuple[str, Mask]],
        spacing_mm: Vector,
    ) -> Iterator[CaseScore]:
        """Compare the organs found in a scan with its references.

        Parameters
        ----------
        case : the scan
        found : the organs found, on the grid of the scan
        references : key of the organ table and (K, J, I) bool reference, on the same grid
        spacing_mm : distance of voxel centres along ``(k, j, i)``

        Raises
        ------
        KeyError
            If the model does not have an organ.
        """
        numbers = {organ.key: number for number, organ in found.organs.items()}
        for organ, mask in references:
            reference: Mask = mask
            predicted: Mask = np.equal(found.labels, numbers[organ])
            if isinstance(case, StoredCase):  # where nothing is known of an organ nothing is compared
                reference, predicted = reference[case.known(organ)], predicted[case.known(organ)]
            yield CaseScore(
                model=self.model,
                subset=self.subset,
                case=case.key,
                organ=organ,
                group=f"{case.database}/{case.patient}",
                db=case.database,
                child=None if case.age_years is None else case.age_years < _CHILD_YEARS,
                comparison=compare(reference, predicted, spacing_mm, self.tolerances.of(organ)),
            )

    def predict_and_compare(self, predictor: Predictor, cases: Iterable[SourceCase]) -> Iterator[CaseScore]:
        """Run a predictor on scans and score every organ that was looked for and that the model has.

        Parameters
        ----------
        predictor : of a bundle
        cases : the scans; an organ that was not looked for in a scan is not scored there
        """
        for case in cases:
            contents = case.read()
            found = predictor.predict(contents.volume, find_body(contents.volume), _ignore_progress).label_map
            organs = {organ.key for organ in found.organs.values()}
            known = sorted(case.annotated & organs & contents.masks.keys())
            references = ((organ, contents.masks[organ]) for organ in known)
            yield from self.compare(case, found, references, contents.volume.grid.spacing_mm)


def _ignore_progress(_done: float, _doing: str) -> None:
    pass
