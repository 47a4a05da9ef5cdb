"""Quality control: every scan that was taken in is measured, checked and drawn, for a person to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.contours import Structure, StructureSet, trace_mask
from orgseg_node.core.montage import Scene, montage
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.durable import atomic_file
from orgseg_node.errors import OrganUnknown, StorageError
from orgseg_training.curation.checks import Cohort, findings_of
from orgseg_training.curation.measurements import (
    ScanFacts,
    keep_facts,
    kept_facts,
    made_of,
    measure,
    read_case,
)
from orgseg_training.datasets.case_store import CaseStore, StoredCase
from orgseg_training.durable import read_json, write_json
from orgseg_training.errors import NoScans

FINDINGS = "findings.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What quality control has to say of one scan.

    Attributes
    ----------
    key : of the scan
    findings : the gravest first
    picture : of its contours; None where it cannot be read
    facts : what was measured; None where it cannot be read
    left_out : why the whole scan is left out of the experiment already, by organ or ``""``
    """

    key: str
    findings: tuple[Finding, ...]
    picture: Path | None
    facts: ScanFacts | None
    left_out: Mapping[str, str]

    def count(self, level: Level) -> int:
        """How many findings of a level."""
        return sum(finding.level is level for finding in self.findings)

    @property
    def badness(self) -> tuple[int, int, int]:
        """Errors, then warnings, then notes; of two scans the larger one is looked at first."""
        return self.count(Level.ERROR), self.count(Level.WARNING), self.count(Level.INFO)


def look(
    store: CaseStore, out: Path, organs: OrganTable, done: Callable[[], object] = lambda: None
) -> tuple[Looked, ...]:
    """Check and draw all scans as they were taken in, also those that are left out; worst first.

    Writes ``CASE.png``, ``facts/CASE.json`` and ``findings.json``. What was made of the same files is kept. A
    scan that cannot be read is an error among the findings.

    Parameters
    ----------
    store : the scans
    out : folder to write to
    organs : the organ table
    done : called after each scan

    Raises
    ------
    NoScans
        If nothing was taken in.
    StorageError
        If results cannot be written, or what is left out cannot be read.
    """
    keys = store.keys()
    if not keys:
        raise NoScans(f"{store.root}.")
    decisions = store.decisions
    facts: dict[str, ScanFacts] = {}
    unread: dict[str, Finding] = {}
    for key in keys:
        try:
            case = store.as_taken_in(key)
            seen = _seen_before(case, out) or _read(case, organs)
        except (StorageError, OrganUnknown) as error:
            unread[key] = _unreadable(key, error.sentence)
            _picture(out, key).unlink(missing_ok=True)  # of files that were whole once
        else:
            facts[key] = seen.facts
            if seen.scene:
                _write(seen, key, out)
        done()
    cohort = Cohort.of(facts.values())
    looked = []
    for key in keys:
        left_out = dict(decisions["organs"].get(key, {}))
        if key in decisions["cases"]:
            left_out[""] = decisions["cases"][key]
        readable = key in facts
        looked.append(
            Looked(
                key=key,
                findings=findings_of(facts[key], cohort) if readable else (unread[key],),
                picture=_picture(out, key) if readable else None,
                facts=facts.get(key),
                left_out=left_out,
            )
        )
    ordered = tuple(sorted(looked, key=lambda one: (*(-n for n in one.badness), one.key)))
    write_json(out / FINDINGS, {one.key: [_as_json(finding) for finding in one.findings] for one in ordered})
    return ordered


def summary(looked: Sequence[Looked]) -> str:
    """How many scans have errors, and how many have warnings only."""
    errors = sum(one.count(Level.ERROR) > 0 for one in looked)
    warned = sum(one.count(Level.ERROR) == 0 < one.count(Level.WARNING) for one in looked)
    return f"{len(looked)} scans: {errors} with errors, {warned} with warnings"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Facts of a scan, and what its picture shows where there is none yet."""

    facts: ScanFacts
    scene: Scene | None


def _seen_before(case: StoredCase, out: Path) -> _Seen | None:
    facts = kept_facts(_facts_file(out, case.key), made_of(case))
    there = facts is not None and _picture(out, case.key).is_file() and case.image.is_file()
    return _Seen(facts=facts, scene=None) if facts and there else None


def _read(case: StoredCase, organs: OrganTable) -> _Seen:
    volume, masks = read_case(case)
    facts = measure(volume, masks, organs, made_of(case))
    return _Seen(facts=facts, scene=_scene(volume, masks, facts, organs))


def _write(seen: _Seen, key: str, out: Path) -> None:
    """Picture first: facts without a picture are measured again."""
    if seen.scene:
        drawn = montage(seen.scene, note=key)
        with atomic_file(_picture(out, key)) as part:
            part.write_bytes(drawn)
    keep_facts(_facts_file(out, key), seen.facts)


def _scene(volume: Volume, masks: Mapping[str, Mask], facts: ScanFacts, organs: OrganTable) -> Scene:
    """Each organ's own contours; where organs overlap, the smaller lies on top in the label map."""
    by_size = sorted(masks, key=lambda key: -facts.organs[key].volume_ml)
    labels = np.zeros(volume.grid.shape, np.uint8)
    structures = []
    for number, key in enumerate(by_size, start=1):
        labels[masks[key]] = number
        contours = tuple(trace_mask(masks[key]))
        structures.append(Structure(organ=organs[key], label=number, contours=contours))
    named = {number: organs[key] for number, key in enumerate(by_size, start=1)}
    return Scene(
        volume=volume,
        label_map=LabelMap(grid=volume.grid, labels=labels, organs=named),
        structures=StructureSet(grid=volume.grid, structures=tuple(structures)),
        volumes_ml={number: facts.organs[key].volume_ml for number, key in enumerate(by_size, start=1)},
    )


def said_of_quality(folder: Path) -> list[str]:
    """What the report says of quality control.

    Parameters
    ----------
    folder : where `look` wrote to

    Raises
    ------
    StorageError
        If the findings cannot be read.
    """
    file = folder / FINDINGS
    if not file.is_file():
        return ["Nobody looked at the scans with orgseg-train qc."]
    scans: dict[str, list[dict[str, Any]]] = read_json(file)
    counts = Counter(finding["code"] for findings in scans.values() for finding in findings)
    sound = sum(not any(one["level"] != Level.INFO for one in found) for found in scans.values())
    said = [f"Quality control looked at {len(scans)} scans; in {sound} there is nothing to warn of."]
    return said + [f"{code}: {number} findings." for code, number in sorted(counts.items())]


def _unreadable(key: str, why: str) -> Finding:
    return Finding(level=Level.ERROR, code="SCAN_UNREADABLE", message=f"{key} cannot be looked at: {why}")


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "level": finding.level.value,
        "code": finding.code,
        "message": finding.message,
        "organ": finding.organ,
        "value": finding.value,
    }


def _picture(out: Path, key: str) -> Path:
    return out / f"{key}.png"


def _facts_file(out: Path, key: str) -> Path:
    return out / "facts" / f"{key}.json"
