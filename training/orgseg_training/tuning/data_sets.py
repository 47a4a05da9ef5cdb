"""A bundle trained further on data sets of an experiment: the file, and the scans it uses."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import OptionInvalid
from orgseg_training.curation.duplicates import find_duplicates, redundant_copies
from orgseg_training.datasets.case_store import CaseStore, StoredCase
from orgseg_training.datasets.registry import open_database
from orgseg_training.settings_file import Name, Positive, Settings, read_settings_file
from orgseg_training.tuning.folds import validation_scans
from orgseg_training.tuning.recipe import Recipe


class Database(Settings):
    """A data set and its use.

    Attributes
    ----------
    name : first part of the keys of its scans
    kind : of the adapter that reads it
    folder : of the data set; relative to the file
    test : ``source``: its own test split is held out; ``none``: nothing
    options : of the adapter
    """

    name: Name
    kind: str
    folder: Path
    test: Literal["source", "none"]
    options: dict[str, Any] = Field(default_factory=dict)


class BundleSettings(Settings):
    """What the bundle and its model card say.

    Attributes
    ----------
    name, version, title, trained_on : see `Manifest`
    limits : sentences of the model card
    stay : organs that stay with the networks of the bundle to start from, which contour them better
    alone : the bundle has the organs that are trained and no others
    """

    name: Name
    version: str
    title: str
    trained_on: str
    limits: tuple[str, ...] = ()
    stay: tuple[str, ...] = ()
    alone: bool = False


class Validation(Settings):
    """The scans that validate.

    Attributes
    ----------
    database : from which they are taken, those with the most organs drawn first
    scans : their number
    scans_of_a_block : number of those on which the best moment is chosen
    """

    database: str
    scans: Positive
    scans_of_a_block: Positive = 8


class Schedule(Settings):
    """The schedule; see `Recipe`."""

    blocks: Positive
    steps_per_block: Positive
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warm_up: Positive = 50
    patience: Positive = 6
    mirrored: bool = False
    balanced: bool = False
    outside_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shifted: bool = False

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        if self.outside_share and not self.balanced:
            raise ValueError("outside_share needs balanced = true")
        return self


class DataSetsFile(Settings):
    """A file that names data sets.

    Attributes
    ----------
    databases : the data sets, each with a name of its own
    """

    databases: Annotated[tuple[Database, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [database.name for database in self.databases]
        if len(set(names)) != len(names):
            raise ValueError("databases: a name is given twice")
        return self


_File = TypeVar("_File", bound=DataSetsFile)


class TuningFile(DataSetsFile):
    """A training of a bundle's network on data sets.

    Attributes
    ----------
    start : bundle to start from: a folder, relative to the file; it may be named on the command line
    organs : that are trained
    seed : of every random choice
    networks : that are trained one after another, with other random choices, and averaged in use
    volumes : an organ of a smaller or larger part of its median volume counts as not drawn
    licence, intended_use : of the bundle
    validation, training, bundle : see their classes
    """

    start: str = "starter-hn"
    organs: Annotated[tuple[str, ...], Field(min_length=1)]
    seed: int = 1
    networks: Positive = 1
    volumes: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(gt=1)]] | None = None
    licence: str
    intended_use: str
    validation: Validation
    training: Schedule
    bundle: BundleSettings

    @model_validator(mode="after")
    def _check(self) -> TuningFile:
        if self.validation.database not in {database.name for database in self.databases}:
            raise ValueError(f"validation: there is no database {self.validation.database}")
        return self

    @property
    def recipe(self) -> Recipe:
        """The schedule of the training."""
        return Recipe(
            name="file", validation_cases=self.validation.scans_of_a_block, **self.training.model_dump()
        )


def read_data_sets_file(path: Path, kind: type[_File], folders: Mapping[str, Path]) -> _File:
    """Read a file that names data sets, with their folders on this machine.

    Parameters
    ----------
    path : a TOML file; relative folders in it are relative to it
    kind : what it must hold
    folders : other folders of data sets, by name

    Raises
    ------
    TrainingSettingsInvalid
        With every problem of the file.
    OptionInvalid
        If there is no data set of such a name.
    """
    read = read_settings_file(path, kind)
    unknown = sorted(folders.keys() - {database.name for database in read.databases})
    if unknown:
        raise OptionInvalid(f"--database: {path.name} has no data set {', '.join(unknown)}.")
    base = path.resolve().parent
    placed = [
        each.model_copy(update={"folder": folders.get(each.name, base / each.folder.expanduser())})
        for each in read.databases
    ]
    return read.model_copy(update={"databases": tuple(placed)})


def store_scans(databases: Iterable[Database], store: CaseStore, table: OrganTable) -> tuple[str, ...]:
    """Store the scans of all data sets; stored ones are kept.

    Parameters
    ----------
    databases : the data sets
    store : of the scans
    table : the organ table

    Returns
    -------
    What was stored and what was not, as lines for a person.

    Raises
    ------
    InputError
        If a folder does not hold such a data set.
    DiskFull, StorageError
        If scans cannot be written.
    """
    every = (open_database(each.kind, each.name, each.folder, each.options, table) for each in databases)
    return store.ingest(case for cases in every for case in cases).lines


def divide_scans(
    databases: Iterable[Database], cases: Sequence[StoredCase]
) -> tuple[list[StoredCase], list[StoredCase]]:
    """The scans for training and validation, and those for the test; of copies one is kept, the test first.

    Parameters
    ----------
    databases : the data sets, which say whether they have test scans
    cases : all scans
    """
    tested = {database.name for database in databases if database.test == "source"}

    def held_out(case: StoredCase) -> bool:
        return case.test and case.database in tested

    copies = redundant_copies(cases, find_duplicates(cases), held_out=held_out)
    used = [case for case in cases if case.key not in copies]
    return [case for case in used if not held_out(case)], [case for case in used if held_out(case)]


def implausible_volumes(
    cases: Iterable[StoredCase], limits: tuple[float, float]
) -> dict[str, dict[str, float]]:
    """The organs of an implausible volume: ml by scan and organ.

    Parameters
    ----------
    cases : the scans for training and validation
    limits : smallest and largest plausible volume, as parts of the median of the organ
    """
    volumes: dict[str, dict[str, float]] = {}
    for case in cases:
        voxel_ml = float(np.prod(case.volume().grid.spacing_mm)) / 1000.0
        for organ in case.drawn:
            volumes.setdefault(organ, {})[case.key] = float(np.count_nonzero(case.mask(organ))) * voxel_ml
    found: dict[str, dict[str, float]] = {}
    for organ, by_scan in sorted(volumes.items()):
        median = statistics.median(by_scan.values())
        for key, ml in by_scan.items():
            if not limits[0] * median <= ml <= limits[1] * median:
                found.setdefault(key, {})[organ] = round(ml, 1)
    return dict(sorted(found.items()))


def scans_that_validate(file: TuningFile, cases: Sequence[StoredCase]) -> tuple[str, ...]:
    """Keys of the scans that validate, those with the most and the rarest organs first.

    Parameters
    ----------
    file : names the data set and the number
    cases : the scans for training and validation
    """
    own = [case for case in cases if case.database == file.validation.database and case.drawn]
    keys = {"val": [case.key for case in own]}
    return validation_scans(own, file.organs, keys, file.validation.scans)
