"""Of which cohort the patient is, by age and size, and whether the bundles were trained on such patients.

It decides nothing: an age or a size that a bundle was not trained on is a warning. The age itself is patient
data and appears nowhere, only whether it is that of an adult or of a child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orgseg_node.contouring.anatomy_check import AnatomyRules
from orgseg_node.contouring.scan_check import ScanDecision, planes_between
from orgseg_node.core.anatomy.cohort import TrainingPatients, cohort_findings, cohort_of
from orgseg_node.core.body import Body
from orgseg_node.core.body.size import PatientSize, measure_size
from orgseg_node.core.checks import Finding
from orgseg_node.core.volume import Volume
from orgseg_node.inference.predictor import ModelIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientCohort:
    """The cohort of a patient, and what the bundles know of it.

    Attributes
    ----------
    cohort : by age, see `orgseg_node.core.anatomy.cohort`
    size : at the level that is contoured
    models : names of the bundles whose region the scan shows
    trained : patients of the bundles that name them, by name of the bundle
    """

    cohort: str
    size: PatientSize
    models: tuple[str, ...]
    trained: Mapping[str, TrainingPatients]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """A warning for each bundle that was not trained on such patients."""
        return tuple(
            finding
            for name, patients in self.trained.items()
            for finding in cohort_findings(self.cohort, self.size, patients, name)
        )

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for report.json."""
        return {
            "age": self.cohort,
            "effective_diameter_mm": round(self.size.effective_diameter_mm, 1),
            "ap_mm": round(self.size.ap_mm, 1),
            "lat_mm": round(self.size.lat_mm, 1),
            "cut_by_field_of_view": round(self.size.cut, 2),
            "models": [self._model(name) for name in self.models],
        }

    def _model(self, name: str) -> dict[str, Any]:
        patients = self.trained.get(name)
        return {
            "name": name,
            "trained_on": None if patients is None else patients.as_dict(),
            "age_trained": None if patients is None else patients.covers_cohort(self.cohort),
            "size_trained": None if patients is None else patients.covers_size(self.size),
        }


def check_cohort(
    scan: tuple[Volume, Body],
    decision: ScanDecision,
    models: Sequence[ModelIdentity],
    rules: AnatomyRules,
    age_years: float | None,
) -> PatientCohort:
    """Compare a patient with the training patients of the bundles.

    Parameters
    ----------
    scan : CT in HU, and the patient in it
    decision : which part of the scan is contoured; the patient is measured there
    models : that are run; those whose region is not in the scan are left out
    rules : what the bundles say of their training patients
    age_years : of the patient; None if not known
    """
    volume, body = scan
    part = None if decision.range_mm is None else planes_between(volume, decision.range_mm)
    if part is not None and body.mask[part.slices].any():
        size = measure_size(volume.crop(part), body.mask[part.slices])
    else:
        size = measure_size(volume, body.mask)
    known = {
        model.name: rules.references.get(model.sha256)
        for model in models
        if model.name not in decision.elsewhere
    }
    return PatientCohort(
        cohort=cohort_of(age_years),
        size=size,
        models=tuple(known),
        trained={
            name: reference.trained
            for name, reference in known.items()
            if reference is not None and reference.trained is not None
        },
    )
