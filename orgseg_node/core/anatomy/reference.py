"""The reference anatomy of a bundle: how its organs look in the contours it was trained on.

It is stored in the bundle as ``reference.json``. It contains distributions, not patients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from orgseg_node.core.anatomy.cohort import TrainingPatients, cohort_of
from orgseg_node.core.anatomy.discriminant import Discriminant
from orgseg_node.core.anatomy.gaussian import Gaussian
from orgseg_node.core.anatomy.placement import Placement
from orgseg_node.core.anatomy.scores import Signatures

SCHEMA: Final = 1
ALL: Final = "all"
"""The group of all patients; the others are `ADULT` and `CHILD`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The upper side of the distribution of a score: its median, and its spread in standard deviations."""

    typical: float
    spread: float

    def spreads(self, value: float) -> float:
        """How many spreads a value of the score is above typical."""
        return (value - self.typical) / self.spread


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OrganReference:
    """One organ in the training contours.

    Attributes
    ----------
    patients : number of patients in whom it was drawn
    volume_ml : smallest, median and largest volume of organs that no end of the scan cuts; empty if too few
    measures : distribution of its measures
    signatures : how faults change the measures
    discriminant : what distinguishes contours with these faults from correct ones; None in older references
    tails : of each score, in patients that the reference was not made from
    piece_mm : distance from the main piece within which 97 % of the patients have all pieces
    piece_ml : volume of all other pieces that 97 % of the patients do not exceed
    holes_ml : volume of cavities that 97 % of the patients do not exceed
    skipped_slices : number that 97 % of the patients do not exceed
    cut : fraction of the patients in whom an end of the scan cuts it, by ``feet`` and ``head``
    """

    patients: int
    volume_ml: tuple[float, ...]
    measures: Gaussian
    signatures: Signatures
    discriminant: Discriminant | None = None
    tails: Mapping[str, Tail]
    piece_mm: float
    piece_ml: float
    holes_ml: float
    skipped_slices: int
    cut: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Population:
    """The organs of a group of patients.

    Attributes
    ----------
    patients : number of them
    organs : by key
    placement : how the organs lie relative to each other
    together : fraction of the patients with the first organ in the scan in whom the second was drawn too
    scan_mm : smallest, median and largest length of the scans along the patient
    unusual, implausible : number of spreads from the typical score on from which it is so
    faulty : the same of the discriminant, on from which an organ is unusual
    """

    patients: int
    organs: Mapping[str, OrganReference]
    placement: Placement
    together: Mapping[str, Mapping[str, float]]
    scan_mm: tuple[float, float, float]
    unusual: float
    implausible: float
    faulty: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnatomyReference:
    """The reference anatomy of a bundle.

    Attributes
    ----------
    source : where the contours come from and under which licence, in one sentence
    populations : by `ALL`, `ADULT` and `CHILD`; the last two only where there are enough patients
    scan : the reference of the judgement of the scan, as its own module writes it; None without one
    trained : ages and sizes of the patients; None in references that were made before these were counted
    """

    source: str
    populations: Mapping[str, Population]
    scan: Mapping[str, Any] | None = None
    trained: TrainingPatients | None = None

    def population(self, age_years: float | None) -> Population:
        """The group that a patient is compared with.

        Parameters
        ----------
        age_years : of the patient; None if not known
        """
        return self.populations.get(cohort_of(age_years), self.populations[ALL])

    def as_dict(self) -> dict[str, Any]:
        """As plain dictionaries and lists, for JSON."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "source": self.source,
            "populations": {name: _population_dict(group) for name, group in self.populations.items()},
        }
        if self.trained is not None:
            document["trained"] = self.trained.as_dict()
        return document if self.scan is None else document | {"scan": dict(self.scan)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> AnatomyReference:
        """From `as_dict`.

        Raises
        ------
        ValueError
            With the reason, if it is something else.
        """
        try:
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']!r} is not {SCHEMA}")
            populations = {name: _population(row) for name, row in document["populations"].items()}
            if ALL not in populations:
                raise ValueError(f"there is no population {ALL!r}")
            trained = document.get("trained")
            return cls(
                source=str(document["source"]),
                populations=populations,
                scan=document.get("scan"),
                trained=None if trained is None else TrainingPatients.from_dict(trained),
            )
        except KeyError as error:
            raise ValueError(f"{error.args[0]!r} is missing") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f"a value has the wrong type: {error}") from error


def _population_dict(group: Population) -> dict[str, Any]:
    return {
        "patients": group.patients,
        "scan_mm": [round(v, 1) for v in group.scan_mm],
        "unusual": round(group.unusual, 3),
        "implausible": round(group.implausible, 3),
        **({"faulty": round(group.faulty, 3)} if math.isfinite(group.faulty) else {}),
        "organs": {key: _organ_dict(organ) for key, organ in group.organs.items()},
        "placement": group.placement.as_dict(),
        "together": {
            key: {other: round(v, 3) for other, v in row.items()} for key, row in group.together.items()
        },
    }


def _population(row: Mapping[str, Any]) -> Population:
    least, middle, most = (float(v) for v in row["scan_mm"])
    return Population(
        patients=int(row["patients"]),
        organs={key: _organ(organ) for key, organ in row["organs"].items()},
        placement=Placement.from_dict(row["placement"]),
        together={
            key: {other: float(v) for other, v in rest.items()} for key, rest in row["together"].items()
        },
        scan_mm=(least, middle, most),
        unusual=float(row["unusual"]),
        implausible=float(row["implausible"]),
        faulty=float(row.get("faulty", math.inf)),
    )


def _organ_dict(organ: OrganReference) -> dict[str, Any]:
    learned = organ.discriminant
    return {
        **({} if learned is None else {"discriminant": learned.as_dict()}),
        "patients": organ.patients,
        "volume_ml": [round(v, 3) for v in organ.volume_ml],
        "tails": {name: [round(t.typical, 4), round(t.spread, 4)] for name, t in organ.tails.items()},
        "piece_mm": round(organ.piece_mm, 2),
        "piece_ml": round(organ.piece_ml, 3),
        "holes_ml": round(organ.holes_ml, 3),
        "skipped_slices": organ.skipped_slices,
        "cut": {end: round(v, 3) for end, v in organ.cut.items()},
        "measures": organ.measures.as_dict(),
        "signatures": {
            name: [None if math.isnan(v) else round(float(v), 3) for v in row]
            for name, row in zip(organ.signatures.names, organ.signatures.changes, strict=True)
        },
    }


def _organ(row: Mapping[str, Any]) -> OrganReference:
    measures = Gaussian.from_dict(row["measures"])
    learned = row.get("discriminant")
    changes = [[math.nan if v is None else float(v) for v in each] for each in row["signatures"].values()]
    return OrganReference(
        patients=int(row["patients"]),
        volume_ml=tuple(float(v) for v in row["volume_ml"]),
        measures=measures,
        signatures=Signatures(
            names=tuple(row["signatures"]),
            changes=np.array(changes, dtype=np.float64).reshape(len(changes), len(measures.names)),
        ),
        discriminant=None if learned is None else Discriminant.from_dict(learned, len(measures.names)),
        tails={
            name: Tail(typical=float(typical), spread=float(spread))
            for name, (typical, spread) in row["tails"].items()
        },
        piece_mm=float(row["piece_mm"]),
        piece_ml=float(row["piece_ml"]),
        holes_ml=float(row["holes_ml"]),
        skipped_slices=int(row["skipped_slices"]),
        cut={end: float(v) for end, v in row["cut"].items()},
    )
