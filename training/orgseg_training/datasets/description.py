"""How a public data set is described: its layout, its labels, its licence, and what was looked for in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orgseg_node.core.organs import load_organs
from orgseg_node.errors import ConfigError
from orgseg_node.shipped import shipped_config
from orgseg_training.datasets.anatomy_check import PAIRS
from orgseg_training.shipped import training_config

Label = Annotated[int, Field(gt=0, lt=256)]
CASE: Final = "{case}"
PATIENT: Final = "{patient}"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scans(_Strict):
    """Where scans lie, relative to the data set's folder; ``{case}`` stands for the scan's name.

    ``{patient}`` may stand for a part that several scans of one patient share.

    Attributes
    ----------
    image : the CT
    labels : the label image, or the folder of the masks, of the same name
    case : regular expression that names must match as a whole; others are no scans of this group
    test : whether the data set holds them back for testing
    automatic : organs whose labels were not drawn by a person in these scans
    """

    image: str
    labels: str
    case: str = r"[^/]+"
    test: bool = False
    automatic: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Scans:
        if CASE not in self.image or CASE not in self.labels:
            raise ValueError("image and labels must hold {case}")
        re.compile(self.case)
        return self


class Table(_Strict):
    """A table of the data set that says more of its scans.

    Attributes
    ----------
    file, separator : of the table
    case, age, split : columns; empty where there is none
    test : value of the column ``split`` for scans that are held back for testing
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
        ``structure-set``: DICOM CT with RTSTRUCT; ``nnunet``: a raw folder of nnU-Net with ``dataset.json``
    drawn : which organs were looked for in which scans, for people; the fields below are what is done
    scans : where they lie; the first group that a name matches counts
    table : what else is said of them
    labels : for ``label-map``: numbers that make up an organ
    others : for ``label-map``: numbers without a key; a scan with still other numbers is rejected, since it
        comes from another release with other meanings
    files : for ``masks``: names, without ending, that together make up an organ
    rois : for ``structure-set``: names that mean an organ, without regard to case, blanks and punctuation
    patterns : for ``structure-set``: regular expressions likewise, asked where no name fits
    """

    title: str
    licence: str
    citation: str
    source: str
    layout: Literal["label-map", "masks", "structure-set", "nnunet"]
    drawn: str
    scans: tuple[Scans, ...] = ()
    table: Table | None = None
    labels: Mapping[str, tuple[Label, ...]] = Field(default_factory=dict)
    others: tuple[Label, ...] = ()
    files: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    rois: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    patterns: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> DataSet:
        known = load_organs(shipped_config("organs.toml"))
        automatic = {organ for scans in self.scans for organ in scans.automatic}
        unknown = sorted({*self.parts, *automatic} - set(known))
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no keys of the organ table")
        if self.layout in {"label-map", "masks"} and not self.scans:
            raise ValueError("scans: say where they lie")
        for pattern in self.patterns.values():
            re.compile(pattern)
        return self

    @property
    def parts(self) -> frozenset[str]:
        """Organs that the data set tells apart, as it divides them."""
        return frozenset({*self.labels, *self.files, *self.rois, *self.patterns})

    @property
    def organs(self) -> frozenset[str]:
        """Organs that scans of it can give, both sides of a pair together too."""
        return with_pairs(self.parts)


def with_pairs(organs: frozenset[str]) -> frozenset[str]:
    """Organs and, where both sides of a pair are among them, the pair."""
    return organs | {both for both, sides in PAIRS.items() if organs.issuperset(sides)}


def described() -> tuple[str, ...]:
    """Names of the data sets that come with the package."""
    return tuple(sorted(path.stem for path in training_config("datasets").glob("*.toml")))


def load_data_set(name: str) -> DataSet:
    """The description of a data set that comes with the package.

    Raises
    ------
    ConfigError
        With every problem of the file, or if there is none.
    """
    return read_description(training_config("datasets") / f"{name}.toml")


def read_description(path: Path) -> DataSet:
    """Read a description from TOML. Raises ConfigError with every problem of the file."""
    try:
        return checked(path.name, tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path.name}: {error}") from error


def checked(name: str, document: Mapping[str, Any]) -> DataSet:
    """A description from its parsed text. Raises ConfigError with every problem."""
    try:
        return DataSet.model_validate(document)
    except (ValidationError, re.error) as error:
        problems = error.errors() if isinstance(error, ValidationError) else []
        lines = [f"  {'.'.join(str(p) for p in e['loc'])} {e['msg'].lower()}" for e in problems] or [
            f"  {error}"
        ]
        raise ConfigError(f"{name}: {len(lines)} problems\n" + "\n".join(lines)) from error
