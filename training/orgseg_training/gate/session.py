"""One gate from two bundles and a site to ``gate.json``: which scans, how many are needed, runs, verdict.

Every scan that was contoured stays in the cache, so a gate that was interrupted continues, and a second one
is short.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from orgseg_node import __version__
from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import StorageError
from orgseg_node.inference.bundles.bundle import ModelBundle, verify_bundle
from orgseg_node.inference.bundles.gate_file import model_entry
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.durable import read_json, write_json
from orgseg_training.errors import NothingToJudge
from orgseg_training.evaluation.delivery import NODE_PROTOCOL
from orgseg_training.evaluation.non_inferiority import needed_patients, pass_probability
from orgseg_training.gate.judgement import Judgement, Margins, OrganJudgement, Rules, judge
from orgseg_training.gate.membership import Membership, refuse_leaks, unchanged_organs
from orgseg_training.gate.runs import BundleRun, Runner, RunResult, with_folds
from orgseg_training.gate.scans import PairedScan
from orgseg_training.gate.subgroups import SubgroupRow, groups_of_scan, size_classes, subgroups
from orgseg_training.site.site import Site

ASSUMED_SD: Final = 0.03
"""Standard deviation of the differences of an organ where no earlier gate has measured it."""

_SPREAD: Final = "spread.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanToJudge:
    """A scan, and the networks of each bundle that may contour it.

    Attributes
    ----------
    case : the scan
    out_of_fold : whether it is a training scan of the site, judged by networks that were not trained on it
    live, candidate : the bundles, with the folds that may be used
    """

    case: StoredCase
    out_of_fold: bool
    live: ModelBundle
    candidate: ModelBundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """How many patients there are, and how many an equal candidate needs to pass in 80 of 100 gates.

    Attributes
    ----------
    patients : of each organ whose network changed, the fewest first
    needed : for all organs together; None if it is above 2000
    probability : that an equal candidate passes with the patients that there are
    sds : expected standard deviation of the differences of Dice and surface Dice, by organ
    measured : organs of which earlier gates of this site have measured it
    """

    patients: Mapping[str, int]
    needed: int | None
    probability: float
    sds: Mapping[str, tuple[float, float]]
    measured: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What a person should know before hours of computing."""
        fewest = min(self.patients.values(), default=0)
        source = f"assumed {ASSUMED_SD:g}"
        if self.measured:
            known = ", ".join(f"{organ} {self.sds[organ][0]:.2g}" for organ in self.measured)
            source += f"; measured in earlier gates of this site: {known}"
        needed = "more than 2000" if self.needed is None else str(self.needed)
        if not self.patients:
            return "No network of the live model was changed: no patients are needed."
        return (
            f"{needed} patients are needed for each of {len(self.patients)} organs, so that a candidate equal"
            f" to the live model passes in 80 of 100 gates (standard deviation of differences {source});"
            f" there are {fewest} for the rarest organ: it would pass in {100 * self.probability:.0f} of 100."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """A finished gate.

    Attributes
    ----------
    judgement : the verdict
    scans : the paired results
    rows : the subgroups
    content : everything, as it is written into the gate file
    """

    judgement: Judgement
    scans: tuple[PairedScan, ...]
    rows: tuple[SubgroupRow, ...]
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GateSession:
    """A gate of a site.

    Attributes
    ----------
    site : with locked patients
    live, candidate : the bundles
    runner : runs them
    claimed : organs that are claimed to be better
    organs : the organ table, with the margins
    protocol_name : how the gate file calls the protocol of the runner
    """

    site: Site
    live: ModelBundle
    candidate: ModelBundle
    runner: Runner
    organs: OrganTable
    claimed: Sequence[str] = ()
    protocol_name: str = NODE_PROTOCOL
    memberships: Mapping[str, Membership] = field(init=False)

    def __post_init__(self) -> None:
        found = {"live": Membership.of(self.live), "candidate": Membership.of(self.candidate)}
        object.__setattr__(self, "memberships", found)

    @property
    def folder(self) -> Path:
        """The folder of the gates of the site."""
        return self.site.root / "gate"

    @property
    def margins(self) -> dict[str, Margins]:
        """The margins of organs that have their own."""
        found = {}
        for key in self.live.manifest.organs:
            own = self.organs[key].gate_margins if key in self.organs else None
            if own is not None:
                found[key] = Margins(dice=own[0], surface_dice=own[1])
        return found

    def scans(self) -> tuple[ScanToJudge, ...]:
        """The scans on which both are compared: locked ones, and out of fold where that is known.

        Raises
        ------
        GateLeak
            If the candidate was trained on locked patients.
        NothingToJudge
            If there is none in which an organ of the live model was drawn.
        BundleError
            If a bundle is not what its manifest says.
        NotLocked, LockDamaged, LockChanged, StorageError
            If the site is not locked, or its files were changed.
        """
        for bundle in (self.live, self.candidate):
            verify_bundle(bundle)
        locked_keys, training_keys = set(self.site.locked_test_keys()), set(self.site.training_keys())
        cases = [case for case in self.site.cases() if case.drawn & set(self.live.manifest.organs)]
        locked = [case for case in cases if case.key in locked_keys]
        refuse_leaks(self.memberships["candidate"], [c for c in self.site.cases() if c.key in locked_keys])
        found = [
            ScanToJudge(case=case, out_of_fold=False, live=self.live, candidate=self.candidate)
            for case in locked
        ]
        if self.memberships["candidate"].is_known:
            found += [one for c in cases if c.key in training_keys if (one := self._out_of_fold(c))]
        if not found:
            raise NothingToJudge
        return tuple(found)

    def _out_of_fold(self, case: StoredCase) -> ScanToJudge | None:
        """A training scan with networks that were not trained on it; None if a bundle has none."""
        live, candidate = (self.memberships[role].folds_for(case) for role in ("live", "candidate"))
        if live is None or candidate is None:
            return None
        return ScanToJudge(
            case=case,
            out_of_fold=True,
            live=with_folds(self.live, live),
            candidate=with_folds(self.candidate, candidate),
        )

    def power(self, scans: Sequence[ScanToJudge]) -> Power:
        """How many patients are needed, and how many there are; nothing is computed yet."""
        same = unchanged_organs(self.live, self.candidate)
        both = [organ for organ in self.live.manifest.organs if organ in self.candidate.manifest.organs]
        organs = [organ for organ in both if organ not in same]
        patients = {
            organ: len({one.case.patient for one in scans if organ in one.case.drawn}) for organ in organs
        }
        measured = self._spread()
        sds = {organ: measured.get(organ, (ASSUMED_SD, ASSUMED_SD)) for organ in organs}
        margins = [self.margins.get(organ, Margins()) for organ in organs]
        flat_margins = [value for one in margins for value in (one.dice, one.surface_dice)]
        flat_sds = [value for organ in organs for value in sds[organ]]
        fewest = min(patients.values(), default=0)
        return Power(
            patients=dict(sorted(patients.items(), key=lambda item: item[1])),
            needed=needed_patients(flat_margins, flat_sds),
            probability=pass_probability(fewest, flat_margins, flat_sds),
            sds=sds,
            measured=tuple(sorted(organ for organ in organs if organ in measured)),
        )

    def uncached_runs(self, scans: Sequence[ScanToJudge]) -> int:
        """How many runs are not in the cache."""
        runs = self._runs()
        return sum(not run.is_cached(scan.case) for scan in scans for run in runs(scan).values())

    def run(
        self,
        scans: Sequence[ScanToJudge],
        clock: Callable[[], datetime],
        on_run: Callable[[str], None] = lambda _: None,
    ) -> GateResult:
        """Contour the scans with both bundles, and judge.

        Parameters
        ----------
        scans : as `GateSession.scans` gives them
        clock : the time; begin and end stand in the gate file
        on_run : called after each run with the key of the scan

        Raises
        ------
        StorageError, DiskFull
            If scans or cache cannot be read or written.
        """
        begun, runs = clock(), self._runs()
        found: dict[str, dict[str, RunResult]] = {}
        for scan in scans:
            for role, run in runs(scan).items():
                found.setdefault(scan.case.key, {})[role] = run.contour(scan.case)
                on_run(scan.case.key)
        sizes = size_classes({key: one["live"].size_cm for key, one in found.items()})
        paired = tuple(_paired(scan, found[scan.case.key], sizes[scan.case.key]) for scan in scans)
        rules = Rules(
            organs=self.live.manifest.organs,
            margins=self.margins,
            claimed=self.claimed,
            unchanged=unchanged_organs(self.live, self.candidate),
        )
        judgement = judge(paired, rules)
        rows = tuple(subgroups(paired, rules.organs, self.margins, rules.seed))
        power = self.power(scans)
        self._note_spread(judgement)
        return GateResult(
            judgement=judgement,
            scans=paired,
            rows=rows,
            content=self._content(judgement, paired, rows, power, (begun, clock())),
        )

    def run_of(self, scan: ScanToJudge, role: str) -> BundleRun:
        """The run of a scan by one of the bundles, for its contours in the cache."""
        return self._runs()(scan)[role]

    def _runs(self) -> Callable[[ScanToJudge], dict[str, BundleRun]]:
        """The runs of a scan; networks with the same folds are loaded once."""
        opened: dict[tuple[str, tuple[Any, ...]], BundleRun] = {}

        def of(scan: ScanToJudge) -> dict[str, BundleRun]:
            found = {}
            for role, bundle in (("live", scan.live), ("candidate", scan.candidate)):
                key = (bundle.sha256, tuple(part.folds for part in bundle.manifest.parts))
                if key not in opened:
                    opened[key] = self.runner.of_bundle(bundle)
                found[role] = opened[key]
            return found

        return of

    def _spread(self) -> dict[str, tuple[float, float]]:
        """Standard deviations of earlier gates, by organ."""
        try:
            rows = read_json(self.folder / _SPREAD)
            return {str(k): (float(v[0]), float(v[1])) for k, v in rows.items() if min(v) > 0}
        except (StorageError, ValueError, TypeError, AttributeError, IndexError):
            return {}

    def _note_spread(self, judgement: Judgement) -> None:
        """Keep the spread of organs that both models draw about equally well.

        An organ that was learned anew, or spoilt, spreads widely and says nothing about an equal candidate.
        """
        rows = {
            one.organ: (one.dice.sd, one.surface_dice.sd)
            for one in judgement.organs
            if one.dice.sd > 0 and one.surface_dice.sd > 0 and abs(one.dice.mean) <= one.margins.dice
        }
        write_json(self.folder / _SPREAD, {**self._spread(), **rows})

    def _content(
        self,
        judgement: Judgement,
        scans: Sequence[PairedScan],
        rows: Sequence[SubgroupRow],
        power: Power,
        when: tuple[datetime, datetime],
    ) -> dict[str, Any]:
        lock = self.site.lock()
        locked = [scan for scan in scans if not scan.out_of_fold]
        content: dict[str, Any] = _without_nan(
            {
                "begun": when[0].isoformat(timespec="seconds"),
                "created": when[1].isoformat(timespec="seconds"),
                "program": __version__,
                "site": self.site.settings.name,
                "lock": {"number": lock.number, "sha256": lock.sha256},
                "live": model_entry(self.live.identity),
                "candidate": model_entry(self.candidate.identity),
                "verdict": judgement.verdict.value,
                "reasons": list(judgement.reasons),
                "scans": {
                    "locked": len(locked),
                    "out_of_fold": len(scans) - len(locked),
                    "patients": len({scan.patient for scan in scans}),
                    "training_known": {r: m.is_known for r, m in self.memberships.items()},
                    "live_has_seen_locked": sum(
                        self.memberships["live"].has_seen(case)
                        for case in self.site.cases()
                        if case.key in lock.test
                    ),
                    "refused": [{"case": scan.case, **scan.refused} for scan in scans if scan.refused],
                },
                "method": self.runner.settings.method_description,
                "protocol": {"name": self.protocol_name, "sha256": self.runner.protocol.sha256},
                "power": {**asdict(power), "sentence": power.sentence},
                "claimed": list(self.claimed),
                "organs": [_organ_row(one) for one in judgement.organs],
                "new_organs": [asdict(one) for one in judgement.new_organs],
                "subgroups": [{**asdict(row), "shown": row.shown.value} for row in rows],
            }
        )
        return content


def _paired(scan: ScanToJudge, found: Mapping[str, RunResult], size: str) -> PairedScan:
    live, candidate = found["live"], found["candidate"]
    return PairedScan(
        case=scan.case.key,
        patient=scan.case.patient,
        out_of_fold=scan.out_of_fold,
        live=live.organs,
        candidate=candidate.organs,
        refused={role: one.refused for role, one in found.items() if one.refused},
        groups=groups_of_scan(scan.case, slice_mm=live.slice_mm, size=size),
    )


def _organ_row(one: OrganJudgement) -> dict[str, Any]:
    row = asdict(one)
    row["verdict"] = one.verdict.value
    row["tail"]["difference_mm"] = one.tail.difference_mm
    return row


def _without_nan(value: Any) -> Any:
    """Plain JSON values: NaN becomes None, tuples lists, numbers that are shown keep 6 digits."""
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value
