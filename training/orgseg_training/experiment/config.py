"""What an experiment is: data sets, organs of both strategies, folds, networks and their budget."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orgseg_node.durable import atomic_file
from orgseg_node.errors import ConfigError
from orgseg_training.errors import ExperimentChanged

Triple = tuple[float, float, float]
Counts = tuple[int, int, int]
Positive = Annotated[int, Field(gt=0)]
# nnU-Net weighs the outputs of deep supervision by 0/0 where a network has fewer than three stages
Features = Annotated[tuple[Positive, ...], Field(min_length=3)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,39}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Database(_Strict):
    """A data set and what it is used for.

    Attributes
    ----------
    name : in the tables
    kind : which adapter reads it
    folder : where it is; relative to the experiment's file
    test : which of its scans are held back: those of its own test split (``source``), a part of its patients
        (``fraction``), all of them (``all``) or none
    subset : number of the test subset they make up: 1, 2 or 3 as in the study
    fraction : of patients, where ``test`` is ``fraction``
    options : of the adapter
    """

    name: Name
    kind: str
    folder: Path
    test: Literal["source", "fraction", "all", "none"] = "fraction"
    subset: Literal[1, 2, 3] = 1
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    options: dict[str, Any] = Field(default_factory=dict)


class Rejects(_Strict):
    """The signed list of what is not trained on.

    Attributes
    ----------
    file : the list; relative to the experiment's file
    public_key : of the person whose signature counts
    """

    file: Path
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Plan(_Strict):
    """How the networks are built.

    Attributes
    ----------
    kind : ``nnunet``: as nnU-Net plans 3d_fullres for each data set; ``fixed``: all alike, as said here
    spacing_mm : target spacing, slice, row, column
    patch_size : voxels
    features : channels of each stage
    batch_size : patches of a batch
    """

    kind: Literal["nnunet", "fixed"]
    spacing_mm: Triple = (3.0, 3.0, 3.0)
    patch_size: Counts = (64, 64, 64)
    features: Features = (16, 32, 64, 128)
    batch_size: Positive = 2


class Training(_Strict):
    """The budget of each network, the same for both strategies.

    Attributes
    ----------
    trainer : ``paper``: nnU-Net's own recipe (SGD, poly schedule, mirroring); ``short``: AdamW, bf16 where a
        CPU has it
    epochs, iterations_per_epoch : length of the schedule
    learning_rate : at its beginning
    max_minutes : a network stops there, wherever it is in its schedule; None for never
    """

    trainer: Literal["paper", "short"]
    epochs: Positive
    iterations_per_epoch: Positive = 250
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    max_minutes: Annotated[float, Field(gt=0)] | None = None


class NetworkSettings(_Strict):
    """One network of strategy 1, where not every organ gets a network of its own with the same settings.

    Attributes
    ----------
    name : of the network
    organs : label number = position in this list, from 1; trained on the scans with all of them drawn
    patch_size, features : in place of those of `Plan`
    learning_rate, epochs, iterations_per_epoch : in place of those of `Training`
    warm_start : earlier network of the list; training starts from its weights, all but the last layers
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    organs: Annotated[tuple[str, ...], Field(min_length=1)]
    patch_size: Counts | None = None
    features: Features | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    epochs: Positive | None = None
    iterations_per_epoch: Positive | None = None
    warm_start: str | None = None


class BundleSettings(_Strict):
    """One bundle of all networks of strategy 1, for the node.

    Attributes
    ----------
    name, version, title, trained_on : written into the bundle and its model card
    limits : sentences of the model card
    """

    name: Name
    version: str
    title: str
    trained_on: str
    limits: tuple[str, ...] = ()


class Costs(_Strict):
    """What one of everything costs, from earlier runs; only the plan that is shown beforehand uses it.

    Attributes
    ----------
    hours_per_network : training
    seconds_per_prediction : one scan with one fold of one network
    gigabytes_per_dataset : nnU-Net's preprocessed copy
    """

    hours_per_network: float
    seconds_per_prediction: float
    gigabytes_per_dataset: float


class Assumed(_Strict):
    """How large the data sets are, for the plan of an experiment whose data are not here.

    Attributes
    ----------
    development, tested : scans in the cross-validation, and held back
    drawn : pairs of a development scan and an organ of strategy 1 that was drawn in it
    missing : pairs of a development scan and an organ of strategy 2 that was not
    """

    development: Positive
    tested: Positive
    drawn: Positive
    missing: Positive


class Experiment(_Strict):
    """The whole of it.

    Attributes
    ----------
    name : of the experiment
    mode : ``strict``: copies of a scan count as one patient, subset 1 is held out of both strategies, paired
        tests on the same scans; ``paper``: as the study did it, with its weaknesses
    seed : of every choice made by chance
    folds : of the cross-validation
    trained_folds : how many of the folds are trained, the first ones; None for all
    strategy_1 : organs with a network each, unless ``networks`` says otherwise
    strategy_2 : organs of the one network; empty for strategy 1 alone, which must then name its bundle
    batch : scans completed by one step
    body_margin_mm : outside the body grown by this everything becomes air
    tile_step_size : step of the sliding window as part of the patch; 0.5 sees every voxel eight times
    licence, intended_use : of the bundles
    networks : the networks of strategy 1; empty for one network for each organ
    bundle : all networks of strategy 1 as one bundle; None for a bundle of each network only
    assumed : sizes for a dry run without the data
    rejects : what is left out
    """

    name: Name
    mode: Literal["strict", "paper"] = "strict"
    seed: int
    folds: Annotated[int, Field(ge=2, le=10)] = 5
    trained_folds: Positive | None = None
    strategy_1: tuple[str, ...]
    strategy_2: tuple[str, ...]
    batch: Positive = 50
    body_margin_mm: float = 3.0
    tile_step_size: Annotated[float, Field(gt=0, le=1)] = 0.5
    licence: str
    intended_use: str
    databases: tuple[Database, ...]
    plan: Plan
    training: Training
    networks: tuple[NetworkSettings, ...] = ()
    bundle: BundleSettings | None = None
    costs: Costs
    assumed: Assumed | None = None
    rejects: Rejects | None = None

    @model_validator(mode="after")
    def _check(self) -> Experiment:
        unknown = sorted(set(self.strategy_2) - set(self.strategy_1))
        if unknown:
            raise ValueError(
                f"strategy_2: {', '.join(unknown)} have no network in strategy_1 to complete them"
            )
        for field, names in (
            ("strategy_1", self.strategy_1),
            ("strategy_2", self.strategy_2),
            ("databases", tuple(database.name for database in self.databases)),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"{field}: a name is there twice")
            if not names and not (field == "strategy_2" and self.bundle):
                raise ValueError(f"{field}: name at least one")
        if (self.trained_folds or 1) > self.folds:
            raise ValueError(f"trained_folds: there are {self.folds} folds")
        return self

    @model_validator(mode="after")
    def _check_networks(self) -> Experiment:
        if not self.networks:
            return self
        organs = [organ for network in self.networks for organ in network.organs]
        if sorted(organs) != sorted(self.strategy_1):
            raise ValueError("networks: together they must have each organ of strategy_1 once")
        earlier: list[str] = []
        for network in self.networks:
            if network.name in {"all", *earlier}:
                raise ValueError(f"networks: {network.name} is the name of another network")
            if network.warm_start is not None and network.warm_start not in earlier:
                raise ValueError(f"networks: {network.name} must start from an earlier network")
            if network.warm_start is not None and self.training.trainer != "short":
                raise ValueError("networks: only the trainer short can start from another network")
            if self.plan.kind != "fixed" and (network.patch_size or network.features):
                raise ValueError("networks: patch_size and features need a plan of the kind fixed")
            earlier.append(network.name)
        return self

    @property
    def networks_of_strategy_1(self) -> tuple[NetworkSettings, ...]:
        """Every network of strategy 1, in the order of training."""
        return self.networks or tuple(
            NetworkSettings.model_construct(name=organ, organs=(organ,)) for organ in self.strategy_1
        )

    @property
    def mirroring(self) -> bool:
        """Whether predictions are averaged over mirrored copies; left and right organs forbid it."""
        return self.training.trainer == "paper" and not any(
            organ.endswith(("_left", "_right")) for organ in self.strategy_1
        )


def load_experiment(path: Path) -> Experiment:
    """Read an experiment.

    Parameters
    ----------
    path : a TOML file; relative folders in it are relative to the file

    Raises
    ------
    ConfigError
        With every problem of the file.
    """
    try:
        experiment = Experiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(str(p) for p in e['loc'])} {e['msg'].lower()}" for e in error.errors()]
        raise ConfigError(f"{path.name}: {len(lines)} problems\n" + "\n".join(lines)) from error
    base = path.resolve().parent
    placed = tuple(
        database.model_copy(update={"folder": base / database.folder.expanduser()})
        for database in experiment.databases
    )
    rejects = experiment.rejects
    if rejects is not None:
        rejects = rejects.model_copy(update={"file": base / rejects.file.expanduser()})
    return experiment.model_copy(update={"databases": placed, "rejects": rejects})


def moved(experiment: Experiment, places: Sequence[str]) -> Experiment:
    """The same with data sets elsewhere.

    Parameters
    ----------
    experiment : which data sets there are
    places : NAME=FOLDER of some of them

    Raises
    ------
    ConfigError
        If there is no such data set, or a place is not written so.
    """
    folders = {}
    known = {database.name for database in experiment.databases}
    for place in places:
        name, found, folder = place.partition("=")
        if not found or name not in known:
            raise ConfigError(f"--database {place}: NAME=FOLDER with NAME of {', '.join(sorted(known))}.")
        folders[name] = Path(folder).expanduser().resolve()
    databases = tuple(
        database.model_copy(update={"folder": folders.get(database.name, database.folder)})
        for database in experiment.databases
    )
    return experiment.model_copy(update={"databases": databases})


def settle(experiment: Experiment, root: Path) -> Path:
    """Write an experiment into its working folder, from where every step reads it; the file.

    Raises
    ------
    ExperimentChanged
        If the folder holds another experiment; only data sets may have moved.
    """
    file = root / "experiment.toml"
    if file.is_file() and moved_away(load_experiment(file)) != moved_away(experiment):
        raise ExperimentChanged(f"{file} says otherwise.")
    with atomic_file(file) as part:
        text = tomli_w.dumps(experiment.model_dump(mode="json", exclude_none=True))
        part.write_text(text, encoding="utf-8")
    return file


def moved_away(experiment: Experiment) -> Experiment:
    """The experiment without the places of its data sets."""
    names = [f"{database.name}=/" for database in experiment.databases]
    return moved(experiment, names)
