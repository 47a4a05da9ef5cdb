"""The cohort of a patient in words, from the content of report.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_ANSWERS: Final = {True: "yes", False: "NO", None: "not known"}


def describe_cohort(report: Mapping[str, Any]) -> Iterator[str]:
    """One line on the patient and one for each bundle; none for reports made before cohorts were known."""
    cohort = report.get("cohort")
    if cohort is None:
        return
    cut = ", cut by the field of view" if cohort["cut_by_field_of_view"] else ""
    age = "age unknown" if cohort["age"] == "unknown" else cohort["age"]
    yield (
        f"Cohort: {age}, effective diameter {cohort['effective_diameter_mm']:.0f} mm "
        f"(AP {cohort['ap_mm']:.0f} mm, LAT {cohort['lat_mm']:.0f} mm{cut})"
    )
    for model in cohort["models"]:
        yield f"  {model['name']}: {_trained_on(model)}"


def _trained_on(model: Mapping[str, Any]) -> str:
    patients = model["trained_on"]
    if patients is None:
        return "does not say on which patients it was trained"
    smallest, _, largest = patients["diameters_mm"]
    return (
        f"trained on {patients['adults']} adults, {patients['children']} children, {patients['age_unknown']} "
        f"of unknown age, {smallest:.0f} to {largest:.0f} mm; such an age: {_ANSWERS[model['age_trained']]}, "
        f"such a size: {_ANSWERS[model['size_trained']]}"
    )
