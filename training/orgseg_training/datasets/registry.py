"""The adapter of each kind of data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import InputError
from orgseg_training.datasets import label_image, mask_per_organ, nnunet_raw, openkbp, plain_ct
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.description import described_data_sets, load_data_set, with_pairs
from orgseg_training.datasets.organ_names import organ_names
from orgseg_training.datasets.organ_table import shipped_organs
from orgseg_training.datasets.rtstruct.archive import read_archive
from orgseg_training.datasets.rtstruct.cases import ArchiveRules, archive_cases
from orgseg_training.errors import TrainingSettingsInvalid

_OPENKBP = "openkbp"


class Options(BaseModel):
    """Options of a data set in an experiment; which may be set depends on the layout.

    Attributes
    ----------
    automatic : whether organs count as drawn that a program labelled (``label-map``, ``masks``), or contoured
        without approval by a person (``structure-set``)
    rois : names used by the site, by organ (``structure-set``)
    label : regular expression for the Structure Set Labels that are preferred where a CT has several
        RTSTRUCTs (``structure-set``)
    organs : keys of the organ table by label name (``nnunet``)
    drawn : organs that were looked for in every scan (``nnunet``)
    outside : organs of which no part is in any scan of the data set: they are background there
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    automatic: bool = False
    rois: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    organs: Mapping[str, str] = Field(default_factory=dict)
    drawn: tuple[str, ...] | None = None
    label: str = ""
    outside: tuple[str, ...] = ()


_KNOWN: Mapping[str, frozenset[str]] = {
    "label-map": frozenset({"automatic"}),
    "masks": frozenset({"automatic"}),
    "structure-set": frozenset({"automatic", "rois", "label"}),
    "nnunet": frozenset({"organs", "drawn"}),
    "ct": frozenset(),
    _OPENKBP: frozenset(),
}
"""Options of each layout, besides ``outside``."""


def kinds() -> tuple[str, ...]:
    """Every kind of data set that an experiment can name."""
    return tuple(sorted({_OPENKBP, *described_data_sets()}))


def open_database(
    kind: str, name: str, folder: Path, options: Mapping[str, Any], organs: OrganTable | None = None
) -> tuple[SourceCase, ...]:
    """The scans of a data set.

    Parameters
    ----------
    kind : one of `kinds`
    name : of the data set in the experiment
    folder : where it is
    options : see `Options`
    organs : the organ table; the shipped one if none is given

    Raises
    ------
    TrainingSettingsInvalid
        If there is no such kind, or it does not have an option.
    InputError
        If the folder does not hold such a data set.
    """
    if kind not in kinds():
        raise TrainingSettingsInvalid(f"databases.{name}: kind {kind!r} must be {', '.join(kinds())}.")
    if not folder.is_dir():
        raise InputError(f"databases.{name}: there is no folder {folder}.")
    table = organs or shipped_organs()
    layout = _OPENKBP if kind == _OPENKBP else load_data_set(kind).layout
    known = _options(name, layout, options, table)
    if layout == "ct" and not known.outside:
        raise TrainingSettingsInvalid(f"databases.{name}.options: outside: name organs that are in no scan.")
    cases = _cases(kind, name, folder, known, table)
    outside = with_pairs(frozenset(known.outside))
    return tuple(_with_outside(case, outside) for case in cases) if outside else cases


def _cases(kind: str, name: str, folder: Path, known: Options, table: OrganTable) -> tuple[SourceCase, ...]:
    if kind == _OPENKBP:
        return openkbp.source_cases(name, folder, {})
    data_set = load_data_set(kind)
    match data_set.layout:
        case "ct":
            return plain_ct.source_cases(name, folder)
        case "label-map":
            return label_image.source_cases(name, folder, data_set, automatic=known.automatic)
        case "masks":
            return mask_per_organ.source_cases(name, folder, data_set, automatic=known.automatic)
        case "structure-set":
            rules = ArchiveRules(
                database=name,
                names=organ_names(data_set, table, known.rois),
                organs=table,
                automatic=known.automatic,
                label=known.label,
            )
            return archive_cases(read_archive([folder]), rules)
        case "nnunet":
            return nnunet_raw.source_cases(
                name,
                folder,
                data_set,
                nnunet_raw.LabelRules(organs=known.organs, drawn=known.drawn, table=table),
            )


def _with_outside(case: SourceCase, outside: frozenset[str]) -> SourceCase:
    """The scan with organs that are certainly outside it; it is stored again if these change."""

    def source_hash() -> str:
        of_case = "" if case.source_hash is None else case.source_hash()
        return hashlib.sha256(repr((of_case, sorted(outside))).encode()).hexdigest()

    return replace(case, annotated=case.annotated | outside, outside=outside, source_hash=source_hash)


def _options(name: str, layout: str, options: Mapping[str, Any], organs: OrganTable) -> Options:
    known = _KNOWN[layout] | {"outside"}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise TrainingSettingsInvalid(
            f"databases.{name}.options: {', '.join(unknown)}: {', '.join(sorted(known))} are known."
        )
    try:
        found = Options.model_validate(options)
    except ValidationError as error:
        lines = [f"  {'.'.join(str(p) for p in e['loc'])} {e['msg'].lower()}" for e in error.errors()]
        raise TrainingSettingsInvalid(f"databases.{name}.options:\n" + "\n".join(lines)) from error
    named = {*found.rois, *found.organs.values(), *(found.drawn or ()), *found.outside}
    no_keys = sorted(named - set(organs))
    if no_keys:
        raise TrainingSettingsInvalid(
            f"databases.{name}.options: {', '.join(no_keys)}: no keys of the organ table."
        )
    return found
