"""The lock: which cases are for training and which only for the test, and the ledger of their patients.

A patient's part is decided once and for ever. When patients are added, only the new ones are divided: who was
ever in the test is never trained on, and who was ever trained on is never in the test.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from orgseg_node.durable import write_durably
from orgseg_node.errors import StorageError
from orgseg_training.curation.measurements import content_hash
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.scan_groups import groups_by_links
from orgseg_training.durable import read_json, write_json
from orgseg_training.errors import LedgerDamaged, LockChanged, LockDamaged, PatientsMixed, TooFewPatients

_VERSION: Final = 1


class Part(StrEnum):
    """What the cases of a patient are for."""

    TRAINING = "training"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Training and test cases.

    Attributes
    ----------
    training, test : hash of the files of each case, by key
    patients : keyed hash of the patient of each case, by key
    number : how often the site has been locked
    sha256 : hash of all of the above
    """

    training: Mapping[str, str]
    test: Mapping[str, str]
    patients: Mapping[str, str]
    number: int
    sha256: str = ""

    @property
    def content(self) -> dict[str, Any]:
        """What is written, without the hash."""
        fields = asdict(self)
        del fields["sha256"]
        return {"version": _VERSION, **fields}


def divide_patients(
    drawn: Mapping[str, frozenset[str]], known: Mapping[str, Part], *, fraction: float, secret: bytes
) -> dict[str, Part]:
    """The part of each patient; patients with a part keep it.

    New patients go into the test so that of each organ about the same fraction is there, and some of it is
    left for training. Among equal ones the choice is random for everybody, and the same whenever it is made.

    Parameters
    ----------
    drawn : the organs that are drawn in the cases of each patient, by keyed hash
    known : parts decided earlier
    fraction : of all patients that shall be in the test; at least one is
    secret : of the site
    """
    parts = {one: known[one] for one in drawn if one in known}
    new = [one for one in drawn if one not in known]
    new.sort(key=lambda one: hmac.new(secret, b"test\0" + one.encode(), hashlib.sha256).digest())
    wanted = max(1, round(fraction * len(drawn))) - sum(part is Part.TEST for part in parts.values())
    if not parts:
        wanted = min(wanted, len(new) - 1)
    every = Counter(organ for organs in drawn.values() for organ in organs)
    tested = Counter(organ for one, part in parts.items() if part is Part.TEST for organ in drawn[one])
    for _ in range(wanted):
        if not new:
            break
        gains = [_gain(drawn[one], every, tested, fraction) for one in new]
        chosen = new.pop(gains.index(max(gains)))
        parts[chosen] = Part.TEST
        tested.update(drawn[chosen])
    return parts | dict.fromkeys(new, Part.TRAINING)


def _gain(organs: Iterable[str], every: Counter[str], tested: Counter[str], fraction: float) -> float:
    """How much better a patient with these organs makes the test."""
    gain = 0.0
    for organ in organs:
        missing = fraction * every[organ] - tested[organ]
        gain += min(1.0, missing) if missing > 0 else missing - 1
        if tested[organ] + 1 == every[organ]:  # nothing would be left to train on
            gain -= len(every)
    return gain / (len(every) or 1)


def make_lock(
    cases: Sequence[StoredCase],
    parts: Mapping[str, Part],
    *,
    number: int,
) -> Lock:
    """The lock of cases.

    Parameters
    ----------
    cases : that are not rejected
    parts : of their patients
    number : of the lock

    Raises
    ------
    StorageError
        If a file of a case cannot be read.
    """
    keys: dict[Part, dict[str, str]] = {Part.TRAINING: {}, Part.TEST: {}}
    for case in cases:
        keys[parts[case.patient]][case.key] = content_hash(case)
    lock = Lock(
        training=keys[Part.TRAINING],
        test=keys[Part.TEST],
        patients={case.key: case.patient for case in cases},
        number=number,
    )
    return Lock(**{**_fields(lock), "sha256": _sha256(lock.content)})


def write_lock(lock: Lock, path: Path) -> None:
    """Write a lock, complete or not at all. Raises DiskFull or NotDurable."""
    write_json(path, {**lock.content, "sha256": lock.sha256})


def read_lock(path: Path) -> Lock:
    """The lock in a file.

    Raises
    ------
    LockDamaged
        If it cannot be read, or is not what was written.
    """
    try:
        document = read_json(path)
        version = document.pop("version")
        lock = Lock(**document)
        parts = (lock.training, lock.test, lock.patients)
        whole = version == _VERSION and all(isinstance(part, dict) for part in parts)
    except (StorageError, AttributeError, KeyError, TypeError) as error:
        raise LockDamaged(f"{path.name} cannot be read.") from error
    if not whole or _sha256(lock.content) != lock.sha256:
        raise LockDamaged(f"{path.name} is not what was written.")
    return lock


def require_unchanged(lock: Lock, cases: Iterable[StoredCase]) -> None:
    """Refuse a lock whose cases are missing, rejected since, or were changed.

    Parameters
    ----------
    lock : the lock
    cases : the cases that are not rejected

    Raises
    ------
    LockChanged
        With the number of cases and the first keys.
    """
    by_key = {case.key: case for case in cases}
    changed = []
    for key, locked in sorted({**lock.training, **lock.test}.items()):
        try:
            same = key in by_key and content_hash(by_key[key]) == locked
        except StorageError:
            same = False
        if not same:
            changed.append(key)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise LockChanged(f"{', '.join(changed[:3])}{more}.")


def require_patients(cases: Iterable[StoredCase], least: int, *, why: str = "") -> None:
    """Refuse too few patients.

    Parameters
    ----------
    cases : that can be used
    least : number of patients that are needed
    why : why others cannot be used, for the message

    Raises
    ------
    TooFewPatients
        If the cases are of fewer patients.
    """
    count = len({case.patient for case in cases})
    if count < least:
        raise TooFewPatients(f"{count} can be used, {least} are needed. {why}".strip())


def joined_parts(
    known: Mapping[str, Part], cases: Iterable[StoredCase], copies: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """The patient that stands for each patient, where copies show that several IDs are one patient.

    Parameters
    ----------
    known : parts decided earlier
    cases : the cases
    copies : keys of cases that are copies of each other

    Raises
    ------
    PatientsMixed
        If copies are of a training patient and of a test patient: one of both was trained on already.
    """
    patient = {case.key: case.patient for case in cases}
    links = [(patient[a], patient[b]) for a, b in copies if a in patient and b in patient]
    leaders: dict[str, str] = {}
    for group in groups_by_links(set(patient.values()), links):
        parts = {known[one] for one in group if one in known}
        if len(parts) > 1:
            keys = sorted(key for key, one in patient.items() if one in group)
            raise PatientsMixed(f"{', '.join(keys[:4])}.")
        decided = [one for one in group if one in known]
        leaders |= dict.fromkeys(group, (decided or group)[0])
    return leaders


def read_ledger(path: Path) -> dict[str, Part]:
    """The part of every patient that was ever locked, by keyed hash; empty if none was.

    Raises
    ------
    LedgerDamaged
        If it cannot be read: without it a test patient could be trained on.
    """
    if not path.exists():
        return {}
    parts: dict[str, Part] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            parts.setdefault(entry["patient"], Part(entry["part"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerDamaged(f"{path.name} has a line that cannot be read.") from error
    return parts


def extend_ledger(path: Path, parts: Mapping[str, Part], when: date) -> None:
    """Add the patients that the ledger does not have; its lines are never changed.

    Parameters
    ----------
    path : the ledger
    parts : part of each patient, by keyed hash
    when : the date of the lock

    Raises
    ------
    DiskFull, NotDurable
        If it cannot be written; then nothing is added.
    LedgerDamaged
        If it cannot be read.
    """
    known = read_ledger(path)
    lines = [
        json.dumps({"patient": one, "part": str(part), "locked": when.isoformat()})
        for one, part in sorted(parts.items())
        if one not in known
    ]
    if lines:
        earlier = path.read_text(encoding="utf-8") if path.exists() else ""
        write_durably(path, (earlier + "\n".join(lines) + "\n").encode())


def _fields(lock: Lock) -> dict[str, Any]:
    return {name: getattr(lock, name) for name in ("training", "test", "patients", "number")}


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
