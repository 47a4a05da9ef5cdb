"""The scores of the organs of a patient against a reference: how far each part of its measures is from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orgseg_node.core.anatomy.discriminant import Discriminant
from orgseg_node.core.anatomy.gaussian import Gaussian
from orgseg_node.core.anatomy.measures import OrganMeasures
from orgseg_node.core.anatomy.placement import Deviation, Placement
from orgseg_node.core.anatomy.values import part_of
from orgseg_node.core.geometry import FloatArray

PARTS = ("size", "tissue", "surroundings", "position", "relation")
"""Parts of the measures that are scored by themselves."""
OVERALL = "overall"
FAULT = "fault"
"""How much an organ looks like a faulty contour; it has a limit of its own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signatures:
    """How faults change the measures of an organ.

    Attributes
    ----------
    names : of the faults, such as ``moved 8 mm to the left``
    changes : (D, V) mean change of each value of the reference, in its scales
    """

    names: tuple[str, ...]
    changes: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OrganScores:
    """The scores of one organ.

    Attributes
    ----------
    values : by name; distances of the parts and of all measures, about 1 for a typical patient, and how much
        the organ looks like each fault, about 0; what cannot be said is missing
    standardised : (V,) number of scales of each value from the centre of the reference; NaN if not known
    deviation : from where the other organs predict it; None if that cannot be said
    """

    values: Mapping[str, float]
    standardised: FloatArray
    deviation: Deviation | None


def standardise(organ: OrganMeasures, deviation: Deviation | None, reference: Gaussian) -> FloatArray:
    """(V,) the measures of an organ and its place among the others in scales of the reference.

    Parameters
    ----------
    organ : its measures
    deviation : from where the other organs predict it
    reference : distribution of both
    """
    return reference.standardised({**organ.values, **(deviation.in_sigma if deviation else {})})


def score_organ(
    organ: OrganMeasures,
    deviation: Deviation | None,
    reference: Gaussian,
    signatures: Signatures,
    discriminant: Discriminant | None = None,
) -> OrganScores:
    """The scores of one organ.

    Parameters
    ----------
    organ : its measures
    deviation : from where the other organs predict it
    reference : distribution of its measures
    signatures : of faults
    discriminant : of faulty contours; None if the reference has none
    """
    z = standardise(organ, deviation, reference)
    parts = np.array([part_of(name) for name in reference.names])
    values = {part: reference.distance(np.where(parts == part, z, np.nan)) for part in PARTS}
    values[OVERALL] = reference.distance(z)
    by_fault = reference.along(z, signatures.changes)
    values |= dict(zip(signatures.names, by_fault.tolist(), strict=True))
    if discriminant is not None:
        values[FAULT] = discriminant.value(z)
    return OrganScores(
        values={name: float(value) for name, value in values.items() if np.isfinite(value)},
        standardised=z,
        deviation=deviation,
    )


def deviations(found: Mapping[str, OrganMeasures], placement: Placement) -> dict[str, Deviation | None]:
    """How far each organ is from where the others predict it.

    Parameters
    ----------
    found : measures by key of the organ, in one scan
    placement : reference of their places
    """
    anchors = {key: organ.anchors_mm for key, organ in found.items()}
    return {key: placement.deviation(key, anchors) for key in found}
