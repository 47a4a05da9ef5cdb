"""Description of a data set: its layout, labels, licence, and the organs that were looked for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from orgseg_node.core.organs import PAIRS, OrganTable
from orgseg_training.datasets.organ_table import shipped_organs
from orgseg_training.errors import TrainingSettingsInvalid
from orgseg_training.shipped import training_config

Label = Annotated[int, Field(gt=0, lt=256)]
CASE: Final = "{case}"
PATIENT: Final = "{patient}"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scans(_Strict):
    """Paths of scans in the data set's folder; ``{case}`` is a placeholder for the scan's name.

    ``{patient}`` is a placeholder for a part of the path that several scans of one patient share.

    Attributes
    ----------
    image : the CT
    labels : the label image, or the folder of the masks, of the same name
    case : regular expression that a name must match completely; other names are no scans of this group
    test : whether they are the test split of the data set
    automatic : organs whose labels in these scans were not drawn by a person
    """

    image: str
    labels: str
    case: str = r"[^/]+"
    test: bool = False
    automatic: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Scans:
        if CASE not in self.image or CASE not in self.labels:
            raise ValueError("image and labels must contain {case}")
        re.compile(self.case)
        return self


class Table(_Strict):
    """A table of the data set with more about its scans.

    Attributes
    ----------
    file, separator : of the table
    case, age, split : names of columns; empty if there is none
    test : value of the column ``split`` for scans of the test split
    """

    file: str
    separator: str = ","
    case: str
    age: str = ""
    split: str = ""
    test: str = "test"


class DataSet(_Strict):
    """A data set in its public layout.

    Attributes
    ----------
    title, licence, citation, source : for people and for the bundles' papers
    layout : ``label-map``: one image of numbers for each scan; ``masks``: one image for each organ and scan;
        ``structure-set``: DICOM CT with RTSTRUCT; ``nnunet``: a raw folder of nnU-Net with ``dataset.json``;
        ``ct``: CTs without contours
    drawn : which organs were looked for in which scans, in words; the fields below are what the program uses
    scans : their paths; a name belongs to the first group that it matches
    table : the data set's table of scans
    labels : for ``label-map``: label numbers of each organ
    others : for ``label-map``: numbers without an organ; a scan with any other number is rejected, since it
        comes from another release with other meanings
    files : for ``masks``: names of files, without suffix, that together make up an organ
    rois : for ``structure-set``: names of an organ, without regard to case, blanks and punctuation
    patterns : for ``structure-set``: regular expressions for an organ, used if no name matches
    """

    title: str
    licence: str
    citation: str
    source: str
    layout: Literal["label-map", "masks", "structure-set", "nnunet", "ct"]
    drawn: str
    scans: tuple[Scans, ...] = ()
    table: Table | None = None
    labels: Mapping[str, tuple[Label, ...]] = Field(default_factory=dict)
    others: tuple[Label, ...] = ()
    files: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    rois: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    patterns: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> DataSet:
        known: OrganTable = (info.context or {}).get("organs") or shipped_organs()
        automatic = {organ for scans in self.scans for organ in scans.automatic}
        unknown = sorted({*self.parts, *automatic} - set(known))
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no keys of the organ table")
        if self.layout in {"label-map", "masks"} and not self.scans:
            raise ValueError("scans: name their paths")
        for pattern in self.patterns.values():
            re.compile(pattern)
        return self

    @property
    def parts(self) -> frozenset[str]:
        """Organs with a label of their own in the data set."""
        return frozenset({*self.labels, *self.files, *self.rois, *self.patterns})

    @property
    def organs(self) -> frozenset[str]:
        """Organs that its scans can have, with the pairs of which it has both sides."""
        return with_pairs(self.parts)


def with_pairs(organs: frozenset[str]) -> frozenset[str]:
    """Organs, and each pair of which both sides are among them."""
    return organs | {both for both, sides in PAIRS.items() if organs.issuperset(sides)}


def described_data_sets() -> tuple[str, ...]:
    """Names of the data sets that come with the package."""
    return tuple(sorted(path.stem for path in training_config("datasets").glob("*.toml")))


def load_data_set(name: str) -> DataSet:
    """The description of a data set that comes with the package.

    Raises
    ------
    TrainingSettingsInvalid
        With every problem of the file, or if there is no such data set.
    """
    return read_description(training_config("datasets") / f"{name}.toml")


def read_description(path: Path) -> DataSet:
    """Read a description from TOML. Raises TrainingSettingsInvalid with every problem of the file."""
    try:
        return parse_description(path.name, tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingSettingsInvalid(f"{path.name}: {error}") from error


def parse_description(name: str, document: Mapping[str, Any], organs: OrganTable | None = None) -> DataSet:
    """A description from its parsed text.

    Parameters
    ----------
    name : of the file, for messages
    document : its content
    organs : the organ table; the shipped one if none is given

    Raises
    ------
    TrainingSettingsInvalid
        With every problem.
    """
    try:
        return DataSet.model_validate(document, context={"organs": organs})
    except (ValidationError, re.error) as error:
        problems = error.errors() if isinstance(error, ValidationError) else []
        lines = [f"  {'.'.join(str(p) for p in e['loc'])} {e['msg'].lower()}" for e in problems] or [
            f"  {error}"
        ]
        raise TrainingSettingsInvalid(f"{name}: {len(lines)} problems\n" + "\n".join(lines)) from error
