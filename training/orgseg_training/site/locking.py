"""Locking a site: copies left out, patients divided, ledger and lock written."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from orgseg_training.curation.duplicates import find_duplicates, redundant_copies
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.errors import LedgerDamaged, NoScans
from orgseg_training.site.lock import (
    Lock,
    Part,
    divide_patients,
    extend_ledger,
    joined_parts,
    make_lock,
    read_ledger,
    require_patients,
    write_lock,
)
from orgseg_training.site.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """The result of locking.

    Attributes
    ----------
    lock : as it was written
    summary : lines for a person: counts, and organs with few cases
    drawn : in how many training cases each organ is drawn
    """

    lock: Lock
    summary: tuple[str, ...]
    drawn: Mapping[str, int]


def lock_site(site: Site, when: date) -> Locked:
    """Lock the cases of a site; it can be locked again after cases were added or rejected.

    Parameters
    ----------
    site : with ingested cases
    when : the date for the ledger

    Raises
    ------
    NoScans
        If nothing was ingested.
    TooFewPatients
        If fewer patients than the setting ``min_patients`` can be used.
    PatientsMixed
        If copies of a scan are of a training patient and of a test patient.
    LedgerDamaged, LockDamaged
        If ledger or earlier lock cannot be read, or contradict each other.
    DiskFull, NotDurable, StorageError
        If files cannot be read or written.
    """
    cases = site.cases()
    if not cases:
        raise NoScans(f"{site.root}.")
    earlier = site.lock() if site.lock_file.is_file() else None
    known = _known_parts(site, earlier)
    pairs = find_duplicates(cases)
    copies = redundant_copies(cases, pairs, held_out=lambda case: known.get(case.patient) is Part.TEST)
    used = tuple(case for case in cases if case.key not in copies)
    patients = {case.patient for case in used}
    few_ids = f"{len(used)} cases have {len(patients)} Patient IDs. " if len(patients) < len(used) else ""
    left_out = f"{len(copies)} cases are copies of others. " if copies else ""
    by_person = len(site.store.ingested()) - len(cases)
    rejected = f"{by_person} cases are rejected by the signed list. " if by_person else ""
    why = f"{few_ids}{left_out}{rejected}{site.store.why_not_used}"
    require_patients(used, site.settings.min_patients, why=why)
    leaders = joined_parts(known, cases, [(pair.first, pair.second) for pair in pairs])
    drawn: defaultdict[str, frozenset[str]] = defaultdict(frozenset)
    for case in cases:
        drawn[leaders[case.patient]] |= case.drawn
    decided = divide_patients(drawn, known, fraction=site.settings.test_fraction, secret=site.secret())
    parts = {patient: decided[leader] for patient, leader in leaders.items()}
    lock = make_lock(used, parts, number=earlier.number + 1 if earlier else 1)
    if earlier and {**earlier.content, "number": 0} == {**lock.content, "number": 0}:
        lock = earlier
    extend_ledger(site.ledger_file, {one: parts[one] for one in lock.patients.values()}, when)
    if lock is not earlier:
        write_lock(lock, site.lock_file)
    training = Counter(organ for case in used if case.key in lock.training for organ in case.drawn)
    return Locked(lock=lock, summary=tuple(_summary(lock, used, len(copies))), drawn=training)


def _known_parts(site: Site, earlier: Lock | None) -> dict[str, Part]:
    """The part of each patient by ledger and earlier lock, which must agree."""
    known = read_ledger(site.ledger_file)
    if earlier is None:
        return known
    for part, keys in ((Part.TRAINING, earlier.training), (Part.TEST, earlier.test)):
        for key in keys:
            if known.setdefault(earlier.patients[key], part) is not part:
                raise LedgerDamaged("Ledger and lock disagree about a patient.")
    return known


def _summary(lock: Lock, cases: tuple[StoredCase, ...], copies: int) -> list[str]:
    patients = {
        part: len({lock.patients[key] for key in keys})
        for part, keys in ((Part.TRAINING, lock.training), (Part.TEST, lock.test))
    }
    training, test = (f"{len(keys)} cases of" for keys in (lock.training, lock.test))
    parts = f"{training} {patients[Part.TRAINING]} patients for training, {test} {patients[Part.TEST]}"
    lines = [f"{parts} for the test."]
    if copies:
        lines.append(f"{copies} copies of other cases are left out.")
    counts: dict[Part, Counter[str]] = {Part.TRAINING: Counter(), Part.TEST: Counter()}
    for case in cases:
        counts[Part.TEST if case.key in lock.test else Part.TRAINING].update(case.drawn)
    width = max(map(len, counts[Part.TRAINING] | counts[Part.TEST]), default=5)
    lines.append(f"{'organ':{width}}  training  test")
    for organ in sorted(counts[Part.TRAINING] | counts[Part.TEST]):
        in_test = counts[Part.TEST][organ]
        note = "" if in_test else "  no test case: it cannot be judged"
        lines.append(f"{organ:{width}}  {counts[Part.TRAINING][organ]:8}  {in_test:4}{note}")
    return lines
