"""The verdict on a candidate from the results of both models: organ by organ, then together.

A candidate passes if for every organ of the live model Dice and surface Dice are shown to be not worse by
more than the margin, no organ is newly missed or newly implausible, the worst distances have not grown, and
the candidate finds the organ at all: two models that find nothing are equal, but of no use.
It fails if one organ is shown to be worse, or one of the other conditions is broken. Otherwise it is
inconclusive: more patients may decide it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy import stats

from orgseg_node.inference.bundles.gate_file import GateVerdict
from orgseg_training.evaluation.non_inferiority import Bounds, Shown, bounds, by_patient
from orgseg_training.evaluation.statistics import holm, signed_rank
from orgseg_training.gate.scans import OrganResult, PairedScan

MARGIN_DICE: Final = 0.02
MARGIN_SURFACE: Final = 0.03
MARGIN_HD95_MM: Final = 2.0
HARDLY_FOUND: Final = 0.1  # mean Dice below which an organ counts as not found, whatever the live model does
_TAIL: Final = 95.0  # percentile of HD95 over the scans
_ALPHA: Final = 0.05
_NAMED: Final = 3  # scans that a reason names


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """How much worse an organ may be.

    Attributes
    ----------
    dice, surface_dice : of the mean difference
    """

    dice: float = MARGIN_DICE
    surface_dice: float = MARGIN_SURFACE


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a candidate is held against.

    Attributes
    ----------
    organs : the organs of the live model
    margins : of each organ that has margins of its own
    claimed : organs that are claimed to be better
    unchanged : organs that the very same network draws in both; they need no patients, but are looked at as
    well
    seed : of the random generator of the bootstrap
    """

    organs: Sequence[str]
    margins: Mapping[str, Margins] = field(default_factory=dict)
    claimed: Sequence[str] = ()
    unchanged: frozenset[str] = frozenset()
    seed: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The 95th percentile of HD95 over the scans in which both models found the organ.

    Attributes
    ----------
    live_mm, candidate_mm : of each model; NaN without scans
    low_mm : one-sided 95 % bound of the difference, candidate minus live
    """

    live_mm: float
    candidate_mm: float
    low_mm: float

    @property
    def difference_mm(self) -> float:
        """Candidate minus live."""
        return self.candidate_mm - self.live_mm


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganJudgement:
    """The verdict on one organ.

    Attributes
    ----------
    organ : its key
    verdict : of this organ alone
    reasons : why it is not PASS, as sentences
    dice, surface_dice : the differences, candidate minus live
    live_dice, candidate_dice : means over the scans
    margins : that were allowed
    tail : the worst distances
    new_misses, new_implausible : scans in which only the candidate misses it, or makes it implausible
    superiority_p : one-sided p of being better, corrected by Holm; None where that is not claimed
    unchanged : whether the very same network draws it in both
    """

    organ: str
    verdict: GateVerdict
    reasons: tuple[str, ...]
    dice: Bounds
    surface_dice: Bounds
    live_dice: float
    candidate_dice: float
    margins: Margins
    tail: Tail
    new_misses: tuple[str, ...]
    new_implausible: tuple[str, ...]
    superiority_p: float | None = None
    unchanged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrgan:
    """An organ that only the candidate has: there is nothing to compare it with.

    Attributes
    ----------
    organ : its key
    scans : in which it was drawn
    mean_dice : over them; NaN without any
    missed, implausible : in how many of them
    """

    organ: str
    scans: int
    mean_dice: float
    missed: int
    implausible: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict on a candidate.

    Attributes
    ----------
    verdict : PASS only if every organ passes
    reasons : why it is not PASS
    organs : one for each organ of the live model
    new_organs : organs of the candidate alone
    """

    verdict: GateVerdict
    reasons: tuple[str, ...]
    organs: tuple[OrganJudgement, ...]
    new_organs: tuple[NewOrgan, ...]


def judge(scans: Sequence[PairedScan], rules: Rules) -> Judgement:
    """Judge a candidate.

    Parameters
    ----------
    scans : contoured by both models
    rules : what the candidate is held against
    """
    better = _superiority(scans, rules.claimed)
    organs = tuple(_judge_organ(organ, scans, rules, better.get(organ)) for organ in rules.organs)
    refused = [scan.case for scan in scans if "candidate" in scan.refused and "live" not in scan.refused]
    reasons = [f"The candidate refuses {_cases(refused)}, which the live model contours."] if refused else []
    verdicts = [one.verdict for one in organs] + ([GateVerdict.FAIL] if refused else [])
    reasons += [reason for one in organs for reason in one.reasons]
    unknown = sorted(set(rules.claimed) - set(rules.organs))
    if unknown:
        reasons.append(f"{', '.join(unknown)} cannot be better: the live model does not have it.")
        verdicts.append(GateVerdict.INCONCLUSIVE)
    if not organs:
        reasons.append("The live model has no organ.")
        verdicts.append(GateVerdict.INCONCLUSIVE)
    return Judgement(
        verdict=_worst(verdicts),
        reasons=tuple(reasons),
        organs=organs,
        new_organs=tuple(_new_organs(scans, rules.organs)),
    )


def pairs_of(organ: str, scans: Iterable[PairedScan]) -> list[tuple[PairedScan, OrganResult, OrganResult]]:
    """The scans in which an organ was drawn and both models were to find it.

    A model that lacks the organ, or refused the scan, has no result; that is dealt with on its own.
    """
    return [
        (scan, scan.live[organ], scan.candidate[organ])
        for scan in scans
        if organ in scan.live
        and organ in scan.candidate
        and scan.live[organ].comparison.status.is_scored
        and scan.candidate[organ].comparison.status.is_scored
    ]


def difference(organ: str, scans: Iterable[PairedScan], metric: str, seed: int) -> Bounds:
    """The difference of a metric for one organ, candidate minus live, over patients.

    Parameters
    ----------
    organ : its key
    scans : contoured by both
    metric : ``dsc`` or ``sdsc``
    seed : of the bootstrap
    """
    pairs = pairs_of(organ, scans)
    values = [getattr(new.comparison, metric) - getattr(old.comparison, metric) for _, old, new in pairs]
    return bounds(by_patient(values, [scan.patient for scan, _, _ in pairs]), seed=seed)


def _judge_organ(
    organ: str, scans: Sequence[PairedScan], rules: Rules, superiority_p: float | None
) -> OrganJudgement:
    pairs = pairs_of(organ, scans)
    margins = rules.margins.get(organ, Margins())
    dice, surface = (difference(organ, scans, metric, rules.seed) for metric in ("dsc", "sdsc"))
    tail = _tail(pairs, rules.seed)
    misses = _only_candidate(organ, scans, lambda result: result.is_missed)
    implausible = _only_candidate(organ, scans, lambda result: result.implausible)
    absent = [
        s for s in scans if organ in s.live and organ not in s.candidate and "candidate" not in s.refused
    ]
    failed = [f"{organ}: the candidate does not have it."] if absent else _hardly_found(organ, pairs, rules)
    unsure: list[str] = []
    for name, found, margin in (
        ("Dice", dice, margins.dice),
        ("surface Dice", surface, margins.surface_dice),
    ):
        shown = found.shows(margin)
        if shown is Shown.WORSE:
            failed.append(
                f"{organ}: {name} is worse by {-found.mean:.3f} (at least {-found.high:.3f}), "
                f"allowed {margin:g}."
            )
        elif shown is Shown.OPEN and organ not in rules.unchanged:
            unsure.append(
                f"{organ}: {name} may be worse by {-found.low:.3f}, allowed {margin:g}; "
                f"{found.patients} patients do not decide it."
            )
        elif shown is Shown.TOO_FEW and not absent and organ not in rules.unchanged:
            unsure.append(f"{organ}: {found.patients} patients are too few.")
    if misses:
        failed.append(f"{organ}: newly missed in {_cases(misses)}.")
    if implausible:
        failed.append(f"{organ}: newly implausible in {_cases(implausible)}.")
    if tail.difference_mm > MARGIN_HD95_MM:
        text = f"{organ}: the worst HD95 grew from {tail.live_mm:.1f} to {tail.candidate_mm:.1f} mm"
        certain = tail.low_mm > MARGIN_HD95_MM
        (failed if certain else unsure).append(f"{text}{'' if certain else ', which may be chance'}.")
    if organ in rules.claimed and (superiority_p is None or not superiority_p < _ALPHA):
        p = "too few patients" if superiority_p is None else f"p {superiority_p:.3f}"
        unsure.append(f"{organ}: it is not shown to be better, as claimed ({p}).")
    verdict = GateVerdict.FAIL if failed else GateVerdict.INCONCLUSIVE if unsure else GateVerdict.PASS
    return OrganJudgement(
        organ=organ,
        verdict=verdict,
        reasons=tuple(dict.fromkeys((*failed, *unsure))),
        dice=dice,
        surface_dice=surface,
        live_dice=_mean(old.comparison.dsc for _, old, _ in pairs),
        candidate_dice=_candidate_dice(pairs),
        margins=margins,
        tail=tail,
        new_misses=misses,
        new_implausible=implausible,
        superiority_p=superiority_p,
        unchanged=organ in rules.unchanged,
    )


def _candidate_dice(pairs: Sequence[tuple[PairedScan, OrganResult, OrganResult]]) -> float:
    return _mean(new.comparison.dsc for _, _, new in pairs)


def _hardly_found(
    organ: str, pairs: Sequence[tuple[PairedScan, OrganResult, OrganResult]], rules: Rules
) -> list[str]:
    """The reason against a candidate that hardly finds an organ, whatever the live model does."""
    dice = _candidate_dice(pairs)
    if organ in rules.unchanged or not dice < HARDLY_FOUND:
        return []
    return [f"{organ}: the candidate hardly finds it, mean Dice {dice:.2f}."]


def _only_candidate(
    organ: str, scans: Iterable[PairedScan], has: Callable[[OrganResult], bool]
) -> tuple[str, ...]:
    """The scans in which only the candidate's organ has a property."""
    return tuple(
        scan.case
        for scan in scans
        if organ in scan.candidate
        and has(scan.candidate[organ])
        and not (organ in scan.live and has(scan.live[organ]))
    )


def _tail(pairs: Sequence[tuple[PairedScan, OrganResult, OrganResult]], seed: int) -> Tail:
    """The 95th percentiles of HD95, and the bound of their difference by the bootstrap over scans."""
    both = [
        (old.comparison.hd95_mm, new.comparison.hd95_mm)
        for _, old, new in pairs
        if old.is_found and new.is_found
    ]
    if not both:
        return Tail(live_mm=math.nan, candidate_mm=math.nan, low_mm=math.nan)
    live, candidate = np.asarray(both, dtype=np.float64).T

    def grown(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        found: np.ndarray = np.percentile(b, _TAIL, axis=axis) - np.percentile(a, _TAIL, axis=axis)
        return found

    low = math.nan
    if len(both) > 1:
        interval = stats.bootstrap(
            (live, candidate), grown, paired=True, vectorized=True, n_resamples=2000,
            confidence_level=1 - 2 * _ALPHA, method="percentile", rng=np.random.default_rng(seed),
        )  # fmt: skip
        low = float(interval.confidence_interval.low)
    return Tail(
        live_mm=float(np.percentile(live, _TAIL)),
        candidate_mm=float(np.percentile(candidate, _TAIL)),
        low_mm=low,
    )


def _superiority(scans: Sequence[PairedScan], claimed: Sequence[str]) -> dict[str, float]:
    """Holm-corrected one-sided p of the signed-rank test for each organ that is claimed to be better."""
    p = []
    for organ in claimed:
        pairs = pairs_of(organ, scans)
        values = [new.comparison.dsc - old.comparison.dsc for _, old, new in pairs]
        p.append(
            signed_rank(by_patient(values, [scan.patient for scan, _, _ in pairs]), alternative="greater")
        )
    return {organ: value for organ, value in zip(claimed, holm(p), strict=True) if not math.isnan(value)}


def _new_organs(scans: Sequence[PairedScan], known: Sequence[str]) -> Iterable[NewOrgan]:
    for organ in sorted({organ for scan in scans for organ in scan.candidate} - set(known)):
        results = [scan.candidate[organ] for scan in scans if organ in scan.candidate]
        drawn = [result for result in results if result.comparison.status.is_scored]
        yield NewOrgan(
            organ=organ,
            scans=len(drawn),
            mean_dice=_mean(result.comparison.dsc for result in drawn),
            missed=sum(result.is_missed for result in drawn),
            implausible=sum(result.implausible for result in results),
        )


def _worst(verdicts: Sequence[GateVerdict]) -> GateVerdict:
    for one in (GateVerdict.FAIL, GateVerdict.INCONCLUSIVE):
        if one in verdicts:
            return one
    return GateVerdict.PASS


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else math.nan


def _cases(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - _NAMED} more" if len(cases) > _NAMED else ""
    return f"{', '.join(cases[:_NAMED])}{more}"
