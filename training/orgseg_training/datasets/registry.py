"""The adapter of each kind of data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orgseg_node.errors import ConfigError, InputError
from orgseg_training.datasets import dicom_rtstruct, label_image, mask_per_organ, nnunet_raw, openkbp
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.description import DataSet, described_data_sets, load_data_set

_OPENKBP = "openkbp"


class Options(BaseModel):
    """Options of a data set in an experiment; which may be set depends on the layout.

    Attributes
    ----------
    automatic : whether organs count as drawn that a program labelled (``label-map``, ``masks``), or contoured
        without approval by a person (``structure-set``)
    rois : names used by the site, by organ (``structure-set``)
    organs : keys of the organ table by label name (``nnunet``)
    drawn : organs that were looked for in every scan (``nnunet``)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    automatic: bool = False
    rois: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    organs: Mapping[str, str] = Field(default_factory=dict)
    drawn: tuple[str, ...] | None = None


_KNOWN: Mapping[str, frozenset[str]] = {
    "label-map": frozenset({"automatic"}),
    "masks": frozenset({"automatic"}),
    "structure-set": frozenset({"automatic", "rois"}),
    "nnunet": frozenset({"organs", "drawn"}),
}
"""Options of each layout."""


def kinds() -> tuple[str, ...]:
    """Every kind of data set that an experiment can name."""
    return tuple(sorted({_OPENKBP, *described_data_sets()}))


def open_database(kind: str, name: str, folder: Path, options: Mapping[str, Any]) -> tuple[SourceCase, ...]:
    """The scans of a data set.

    Parameters
    ----------
    kind : one of `kinds`
    name : of the data set in the experiment
    folder : where it is
    options : see `Options`

    Raises
    ------
    ConfigError
        If there is no such kind, or it does not have an option.
    InputError
        If the folder does not hold such a data set.
    """
    if kind not in kinds():
        raise ConfigError(f"databases.{name}: kind {kind!r} must be {', '.join(kinds())}.")
    if not folder.is_dir():
        raise InputError(f"databases.{name}: there is no folder {folder}.")
    if kind == _OPENKBP:
        return openkbp.source_cases(name, folder, options)
    data_set = load_data_set(kind)
    known = _options(name, data_set, options)
    match data_set.layout:
        case "label-map":
            return label_image.source_cases(name, folder, data_set, automatic=known.automatic)
        case "masks":
            return mask_per_organ.source_cases(name, folder, data_set, automatic=known.automatic)
        case "structure-set":
            return dicom_rtstruct.source_cases(
                name, folder, data_set, rois=known.rois, automatic=known.automatic
            )
        case "nnunet":
            return nnunet_raw.source_cases(name, folder, data_set, organs=known.organs, drawn=known.drawn)


def _options(name: str, data_set: DataSet, options: Mapping[str, Any]) -> Options:
    known = _KNOWN[data_set.layout]
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ConfigError(
            f"databases.{name}.options: {', '.join(unknown)}: {', '.join(sorted(known))} are known."
        )
    try:
        return Options.model_validate(options)
    except ValidationError as error:
        lines = [f"  {'.'.join(str(p) for p in e['loc'])} {e['msg'].lower()}" for e in error.errors()]
        raise ConfigError(f"databases.{name}.options:\n" + "\n".join(lines)) from error
