"""Synthetic results of two models: honest, equal but for noise, and sabotaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orgseg_node.core.metrics import Comparison, Status
from orgseg_training.gate.scans import OrganResult, PairedScan

SEVEN = (
    "brainstem", "spinal_cord", "parotid_left", "parotid_right", "mandible", "larynx", "esophagus",
)  # fmt: skip


def found(dice: float, hd95_mm: float = 4.0) -> OrganResult:
    """An organ that was found, with a Dice."""
    return OrganResult(
        comparison=Comparison(status=Status.OK, dsc=dice, sdsc=min(1.0, dice + 0.05), hd95_mm=hd95_mm)
    )


MISSED = OrganResult(comparison=Comparison(status=Status.PRED_EMPTY, dsc=0.0, sdsc=0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Makes paired scans.

    Attributes
    ----------
    patients : number of scans, each of another patient
    sd : of the differences of Dice between the models
    organs : of both models
    """

    patients: int = 30
    sd: float = 0.01
    organs: Sequence[str] = SEVEN

    def equal(self, seed: int) -> tuple[PairedScan, ...]:
        """A candidate that is equal to the live model but for noise."""
        chance = np.random.default_rng(seed)
        scans = []
        for number in range(self.patients):
            live = {organ: float(chance.normal(0.80, 0.04)) for organ in self.organs}
            noise = {organ: float(chance.normal(0.0, self.sd)) for organ in self.organs}
            scans.append(
                PairedScan(
                    case=f"site__{number:03d}",
                    patient=f"p{number:03d}",
                    out_of_fold=False,
                    live={organ: found(dice) for organ, dice in live.items()},
                    candidate={organ: found(dice + noise[organ]) for organ, dice in live.items()},
                )
            )
        return tuple(scans)


def changed(
    scans: Sequence[PairedScan], candidate: Mapping[str, OrganResult | None], number: int | None = None
) -> tuple[PairedScan, ...]:
    """The scans, with other results of the candidate in all of them, or in one; None takes the organ away."""

    def of(scan: PairedScan) -> PairedScan:
        results = {**scan.candidate, **candidate}
        return replace(scan, candidate={k: v for k, v in results.items() if v is not None})

    return tuple(of(scan) if number in {None, n} else scan for n, scan in enumerate(scans))
