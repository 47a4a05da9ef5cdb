"""The survey of an archive: which scans can be used, why others cannot, and what the ROI names mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orgseg_node.dicom.reading.files import whole_text
from orgseg_training.datasets.rtstruct.archive import (
    Archive,
    choose_structure_set,
    drawn_part,
    read_archive,
    require_same_patient,
)
from orgseg_training.datasets.rtstruct.roi_masks import scan_findings
from orgseg_training.datasets.rtstruct.structure_sets import StructureSet
from orgseg_training.errors import scan_error, short_reason
from orgseg_training.site.names import add_names, read_names
from orgseg_training.site.proposals import Confidence, Meaning, meaning_of, volume_text
from orgseg_training.site.roi_survey import survey_names
from orgseg_training.site.site import Site

_TITLES = {
    Confidence.KNOWN: "Known names. Check the side and the volume.",
    Confidence.PROPOSED: "Proposals: take the # away from those that are right.",
    Confidence.UNKNOWN: 'Nothing to propose: write the key of the organ in place of "?" and take the # away.',
    Confidence.NO_ORGAN: "Targets, helps and devices.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedArchive:
    """What a survey found.

    Attributes
    ----------
    usable : keys of the CT series with a structure set
    reasons : why others cannot be used, by key
    warnings : what is wrong with the CT of those that are usable, such as missing slices, by key
    meanings : of every ROI name with contours
    empty : ROI names without any contours
    plans, lone_plans : number of plans, and of those whose structure set is not here
    passed_over : number of other files, by what they are
    new_names : number of lines added to names.toml
    undecided : number of names with contours on which nobody has decided
    """

    usable: tuple[str, ...]
    reasons: dict[str, str]
    warnings: dict[str, tuple[str, ...]]
    meanings: tuple[Meaning, ...]
    empty: tuple[str, ...]
    plans: int
    lone_plans: int
    passed_over: Mapping[str, int]
    new_names: int
    undecided: int


def survey_site(site: Site) -> SurveyedArchive:
    """Survey the archive of a site, and add the names that are new to its ``names.toml``.

    Raises
    ------
    InputError
        If the archive has neither CT nor RTSTRUCT.
    NamesInvalid, TrainingSettingsInvalid
        If names.toml, site.toml or organs.toml is invalid.
    DiskFull, NotDurable
        If files cannot be written.
    """
    read_names(site.names_file, site.organs)  # a mistake in it is said before the archive is read
    archive = read_archive(site.settings.archive, any_export=site.settings.any_export)
    used: list[StructureSet] = []
    usable, reasons, warnings, patients = [], {}, {}, {}
    for key, patient_id, outcome in _chain(site, archive):
        patients[key] = patient_id
        if isinstance(outcome, str):
            reasons[key] = outcome
            continue
        structures, findings = outcome
        usable.append(key)
        used.append(structures)
        if findings:
            warnings[key] = findings
    site.patients.add({key: patient_id for key, patient_id in patients.items() if patient_id})
    surveyed = survey_names(used)
    meanings = tuple(meaning_of(one, site.organs) for one in surveyed if one.rois)
    new = add_names(
        site.names_file,
        {
            title: [one.line for one in meanings if one.confidence is confidence]
            for confidence, title in _TITLES.items()
        },
    )
    names = read_names(site.names_file, site.organs)
    return SurveyedArchive(
        usable=tuple(usable),
        reasons=dict(sorted(reasons.items())),
        warnings=dict(sorted(warnings.items())),
        meanings=meanings,
        empty=tuple(one.name for one in surveyed if not one.rois),
        plans=len(archive.plans),
        lone_plans=len(archive.lone_plans()),
        passed_over=archive.passed_over(),
        new_names=new,
        undecided=sum(not names.is_decided(one.survey.name) for one in meanings),
    )


def survey_lines(found: SurveyedArchive) -> Iterator[str]:
    """What a survey found, as lines for a person."""
    yield from _name_table(found.meanings)
    if found.empty:
        yield f"Without contours everywhere: {', '.join(found.empty)}."
    yield ""
    unusable = f", {len(found.reasons)} things cannot be used:" if found.reasons else "."
    yield f"{len(found.usable)} scans have a structure set{unusable}"
    yield from (f"  {key}: {why}" for key, why in found.reasons.items())
    if found.warnings:
        yield f"Look at the CT of {len(found.warnings)} of them:"
        yield from (f"  {key}: {text}" for key, texts in found.warnings.items() for text in texts)
    if found.plans:
        lone = f", {found.lone_plans} on structure sets that are not here" if found.lone_plans else ""
        yield f"{found.plans} plans{lone}."
    if found.passed_over:
        counts = "; ".join(f"{count} x {kind}" for kind, count in found.passed_over.items())
        yield f"Passed over: {counts}."


def _name_table(meanings: Sequence[Meaning]) -> Iterator[str]:
    rows = [
        (
            one.survey.name,
            str(one.survey.patients),
            volume_text(one.survey.volume_ml),
            one.survey.place,
            f"{one.organ or '-'} ({one.confidence}{f': {one.remark}' if one.remark else ''})",
        )
        for one in meanings
    ]
    table = [("ROI name", "patients", "ml", "where", "organ"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for row in table:
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)]
        yield "  ".join((*cells, row[4]))


def _chain(
    site: Site, archive: Archive
) -> Iterator[tuple[str, str, tuple[StructureSet, tuple[str, ...]] | str]]:
    """Key, Patient ID, and of each CT structure set and warnings, or why it cannot be used."""
    settings = site.settings
    for parts in archive.scans():
        first = parts[0][0]
        key = f"{settings.name}__{archive.name_of(first)}"
        patient_id = whole_text(first.header, "PatientID")
        try:
            series, links = drawn_part(parts)
            link, _ = choose_structure_set(
                links, archive.planned, automatic=settings.automatic, label=settings.label
            )
            require_same_patient(series, link)
        except Exception as error:  # noqa: BLE001  # one odd scan must not hide the others
            yield key, patient_id, short_reason(scan_error(error).sentence)
        else:
            yield key, patient_id, (link.structures, tuple(one.message for one in scan_findings(series)))
    for name, path, why in archive.unmatched():
        yield f"{settings.name}__{name}", archive.patient_id_of(path), short_reason(why.sentence)
