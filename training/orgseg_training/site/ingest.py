"""Storing the cases of a site's archive, and saying of everything else why it is not used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from orgseg_node.core.checks import Finding
from orgseg_training.curation.rejects import Reject, read_signed
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.case_store import Ingested
from orgseg_training.datasets.rtstruct.archive import read_archive
from orgseg_training.datasets.rtstruct.cases import ArchiveRules, archive_cases
from orgseg_training.durable import read_json
from orgseg_training.errors import NamesInvalid, RejectsUnsigned, short_reason
from orgseg_training.experiment.exclusions import apply_rejects
from orgseg_training.site.names import SiteNames, read_names
from orgseg_training.site.patients import patient_hash
from orgseg_training.site.site import Site

_SHOWN: Final = 12
_FEW: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What was stored and what was not.

    Attributes
    ----------
    ingested : the scans
    undecided : ROI names on which nobody has decided, each with the number of scans that have it
    left_out : reasons for single organs, by case
    notes : what was filled in, or is known only in part, by case
    drawn : number of cases in which each organ is drawn
    rejected_by_person : number of cases and of organs that a person has rejected
    """

    ingested: Ingested
    undecided: Mapping[str, int]
    left_out: Mapping[str, tuple[Finding, ...]]
    notes: Mapping[str, tuple[Finding, ...]]
    drawn: Mapping[str, int]
    rejected_by_person: tuple[int, int]


def ingest_site(
    site: Site, on_each: Callable[[Sequence[SourceCase]], Iterable[SourceCase]] = iter
) -> IngestReport:
    """Store the scans of the archive, those whose CT, RTSTRUCT or names have changed again.

    Parameters
    ----------
    site : with a list of names
    on_each : yields the same cases one by one, and may show how many are left

    Raises
    ------
    NamesInvalid
        If there is no list of names, or it is invalid.
    InputError
        If the archive has neither CT nor RTSTRUCT.
    RejectsInvalid, RejectsUnsigned
        If there is a list of rejects that is not what the named person has signed.
    DiskFull, NotDurable, StorageError
        If files cannot be read or written.
    """
    table = site.organs
    names = read_names(site.names_file, table)
    if not names.organs:
        raise NamesInvalid("names.toml is missing or empty; orgseg-train site survey writes it.")
    secret = site.secret()
    rules = ArchiveRules(
        database=site.settings.name,
        names=names,
        organs=table,
        automatic=site.settings.automatic,
        label=site.settings.label,
        hash_patient=partial(patient_hash, secret),
    )
    cases = archive_cases(read_archive(site.settings.archive, any_export=site.settings.any_export), rules)
    site.patients.add({case.key: case.patient_id for case in cases if case.patient_id})
    ingested = site.store.ingest(on_each(cases), again=True)
    rejected = reject_cases(site)
    left_out, notes = _findings(site)
    return IngestReport(
        ingested=ingested,
        undecided=_undecided(ingested, names),
        left_out=left_out,
        notes=notes,
        drawn=Counter(organ for case in site.cases() for organ in case.drawn),
        rejected_by_person=rejected,
    )


def reject_cases(site: Site) -> tuple[int, int]:
    """Leave out what the signed list of rejects names; returns the number of cases and of organs.

    Raises
    ------
    RejectsInvalid, RejectsUnsigned
        If the list is not what the named person has signed, or names an unknown case or organ.
    StorageError
        If the decisions cannot be written.
    """
    signer = ""
    rejects: tuple[Reject, ...] = ()
    if site.rejects_file.exists():
        if not site.settings.rejects_key:
            raise RejectsUnsigned(
                "rejects_key in site.toml is empty: put the public key of the person there."
            )
        rejects, signer = read_signed(site.rejects_file, site.settings.rejects_key)
    file = site.store.root / "rejected.json"
    gone = {(key, "") for key in (read_json(file) if file.is_file() else {})}
    cases = site.store.ingested()
    unusable = {(case.key, finding.organ) for case in cases for finding in case.findings if finding.organ}
    left_out, organs = apply_rejects(rejects, cases, gone | unusable)
    decisions = {"signer": signer, "cases": left_out, "organs": organs, "kept": {}, "pairs": []}
    site.store.save_decisions(decisions, final=False)
    return len(left_out), sum(map(len, organs.values()))


def ingest_lines(report: IngestReport) -> Iterator[str]:
    """What was stored and what was not, as lines for a person."""
    done = report.ingested
    yield f"{done.added} cases added, {done.changed} stored again, {done.kept} unchanged."
    cases, organs = report.rejected_by_person
    if cases or organs:
        yield f"Rejected by the signed list: {cases} cases, {organs} organs of other cases."
    if report.drawn:
        counts = ", ".join(f"{organ} {count}" for organ, count in sorted(report.drawn.items()))
        yield f"Drawn in so many cases: {counts}."
    for title, found in (
        ("Organs left out of a case:", report.left_out),
        ("Filled in, known only in part, or unusual:", report.notes),
    ):
        if found:
            yield title
            yield from _by_message(found)
    if done.rejected:
        yield f"{len(done.rejected)} not used:"
        yield from (
            f"  {key}: {short_reason(why).removeprefix(f'{key}: ')}" for key, why in done.rejected.items()
        )
    if report.undecided:
        yield "ROI names that nobody has decided on (number of scans):"
        shown = sorted(report.undecided.items(), key=lambda item: (-item[1], item[0]))
        yield from (f"  {name} ({count})" for name, count in shown[:_SHOWN])
        if len(shown) > _SHOWN:
            yield f"  and {len(shown) - _SHOWN} more, see unused.json"
        yield "Run orgseg-train site survey, name their organs in names.toml, and ingest again."


def _by_message(found: Mapping[str, tuple[Finding, ...]]) -> Iterator[str]:
    """Each finding with its case; of what many cases have of an organ, the lowest and the highest."""
    cases: defaultdict[tuple[str, str | None], list[tuple[str, Finding]]] = defaultdict(list)
    for key, findings in found.items():
        for finding in findings:
            cases[finding.code, finding.organ].append((key, finding))
    for (code, organ), members in sorted(cases.items(), key=lambda item: (item[0][0], str(item[0][1]))):
        if len(members) <= _FEW:
            yield from (f"  {key}: {finding.message}" for key, finding in members)
        else:
            yield f"  {organ or 'scan'}: {code} in {len(members)} cases (all in qc/index.html), such as"
            ordered = sorted(members, key=lambda member: member[1].value or 0.0)
            yield from (f"    {key}: {finding.message}" for key, finding in (ordered[0], ordered[-1]))


def _undecided(ingested: Ingested, names: SiteNames) -> dict[str, int]:
    """ROI names that are not in names.toml; entries with a reason are organs and no names."""
    return {
        name: len(set(keys))
        for name, keys in ingested.unused.items()
        if not names.is_decided(name) and ": " not in name
    }


def _findings(site: Site) -> tuple[dict[str, tuple[Finding, ...]], dict[str, tuple[Finding, ...]]]:
    """Findings of the stored cases: organs left out, and everything else, by case."""
    left_out: defaultdict[str, list[Finding]] = defaultdict(list)
    notes: defaultdict[str, list[Finding]] = defaultdict(list)
    for case in site.store.ingested():
        for finding in case.findings:
            target = left_out if finding.code == "ROI_LEFT_OUT" else notes
            target[case.key].append(finding)
    return {k: tuple(v) for k, v in left_out.items()}, {k: tuple(v) for k, v in notes.items()}
