"""The experiment file: data sets, organs of both strategies, folds, networks and their budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, model_validator

from orgseg_node.durable import atomic_file
from orgseg_node.errors import OptionInvalid
from orgseg_training.datasets.organ_table import OWN_ORGANS, with_own_organs
from orgseg_training.errors import ExperimentChanged
from orgseg_training.settings_file import Name, Positive, Settings, read_settings_file

Triple = tuple[float, float, float]
Counts = tuple[int, int, int]
# with fewer than three stages nnU-Net divides 0 by 0 for the weights of deep supervision
Features = Annotated[tuple[Positive, ...], Field(min_length=3)]


class Database(Settings):
    """A data set and its use.

    Attributes
    ----------
    name : in the tables
    kind : of the adapter that reads it
    folder : of the data set; relative to the experiment file
    test : which of its scans are held out: those of its own test split (``source``), a part of its patients
        (``fraction``), all of them (``all``) or none
    subset : number of the test subset of these scans: 1, 2 or 3 as in the study
    fraction : of patients, if ``test`` is ``fraction``
    options : of the adapter
    """

    name: Name
    kind: str
    folder: Path
    test: Literal["source", "fraction", "all", "none"] = "fraction"
    subset: Literal[1, 2, 3] = 1
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    options: dict[str, Any] = Field(default_factory=dict)


class Rejects(Settings):
    """The signed list of scans and organs that are not trained on.

    Attributes
    ----------
    file : the list; relative to the experiment file
    public_key : of the person who must have signed
    """

    file: Path
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Plan(Settings):
    """Architecture of the networks.

    Attributes
    ----------
    kind : ``nnunet``: as nnU-Net plans 3d_fullres for each data set; ``fixed``: as given here
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


class Training(Settings):
    """The budget of each network, the same for both strategies.

    Attributes
    ----------
    trainer : ``paper``: as nnU-Net trains (SGD, poly schedule, mirroring); ``short``: AdamW, in bf16 on CPUs
        that compute it
    epochs, iterations_per_epoch : length of the schedule
    learning_rate : at the start
    max_minutes : time limit of a training, after which it ends early; None for no limit
    """

    trainer: Literal["paper", "short"]
    epochs: Positive
    iterations_per_epoch: Positive = 250
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    max_minutes: Annotated[float, Field(gt=0)] | None = None


class NetworkSettings(Settings):
    """One network of strategy 1, for experiments with other networks than one for each organ.

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


class BundleSettings(Settings):
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


class Costs(Settings):
    """Costs known from earlier runs, used only for the estimate before a run.

    Attributes
    ----------
    hours_per_network : training of one fold
    seconds_per_prediction : of one scan with one fold of one network
    gigabytes_per_dataset : of nnU-Net's preprocessed copy
    """

    hours_per_network: float
    seconds_per_prediction: float
    gigabytes_per_dataset: float


class AssumedSizes(Settings):
    """Sizes of the data sets, for the estimate of an experiment without its data.

    Attributes
    ----------
    development, tested : number of scans in the cross-validation, and held out
    drawn : pairs of a development scan and an organ of strategy 1 that was drawn in it
    missing : pairs of a development scan and an organ of strategy 2 that was not drawn in it
    """

    development: Positive
    tested: Positive
    drawn: Positive
    missing: Positive


class Experiment(Settings):
    """An experiment.

    Attributes
    ----------
    name : of the experiment
    mode : ``strict``: copies of a scan count as one patient, subset 1 is held out of both strategies, paired
        tests on the same scans; ``paper``: as the study did it, with its weaknesses
    seed : of every random choice
    folds : of the cross-validation
    trained_folds : number of folds that are trained, the first ones; None for all
    strategy_1 : organs with a network each, if ``networks`` is not given
    strategy_2 : organs of the one network; may be empty if ``bundle`` is given
    batch : number of scans completed by one step
    body_margin_mm : everything farther outside the body contour is set to air
    tile_step_size : step of the sliding window as a fraction of the patch; 0.5 predicts every voxel eight
        times
    licence, intended_use : of the bundles
    networks : the networks of strategy 1; empty for one network for each organ
    bundle : all networks of strategy 1 as one bundle; None for a bundle of each network only
    assumed : sizes for a dry run without the data
    rejects : scans and organs that are left out
    organs : organs of the site's own, in the form of the organ table; relative to the experiment file
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
    assumed: AssumedSizes | None = None
    rejects: Rejects | None = None
    organs: Path | None = None

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
                raise ValueError(f"{field}: a name is given twice")
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
        """Whether predictions are averaged over mirrored copies; not possible with left and right organs."""
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
    TrainingSettingsInvalid
        With every problem of the file.
    """
    experiment = read_settings_file(path, Experiment)
    base = path.resolve().parent
    placed = tuple(
        database.model_copy(update={"folder": base / database.folder.expanduser()})
        for database in experiment.databases
    )
    rejects = experiment.rejects
    if rejects is not None:
        rejects = rejects.model_copy(update={"file": base / rejects.file.expanduser()})
    organs = None if experiment.organs is None else base / experiment.organs.expanduser()
    return experiment.model_copy(update={"databases": placed, "rejects": rejects, "organs": organs})


def with_folders(experiment: Experiment, assignments: Sequence[str]) -> Experiment:
    """The same experiment with data sets in other folders.

    Parameters
    ----------
    experiment : names the data sets
    assignments : NAME=FOLDER for some of them

    Raises
    ------
    OptionInvalid
        If there is no such data set, or an assignment has another form.
    """
    folders = {}
    known = {database.name for database in experiment.databases}
    for assignment in assignments:
        name, equals, folder = assignment.partition("=")
        if not equals or name not in known:
            raise OptionInvalid(
                f"--database {assignment}: NAME=FOLDER with NAME of {', '.join(sorted(known))}."
            )
        folders[name] = Path(folder).expanduser().resolve()
    databases = tuple(
        database.model_copy(update={"folder": folders.get(database.name, database.folder)})
        for database in experiment.databases
    )
    return experiment.model_copy(update={"databases": databases})


def save_experiment(experiment: Experiment, root: Path) -> Path:
    """Write an experiment to its working folder, where every step reads it; returns the file.

    Raises
    ------
    ExperimentChanged
        If the folder has another experiment; only folders of data sets may differ.
    """
    file = root / "experiment.toml"
    if file.is_file() and without_folders(load_experiment(file)) != without_folders(experiment):
        raise ExperimentChanged(f"{file} differs.")
    with atomic_file(file) as part:
        text = tomli_w.dumps(experiment.model_dump(mode="json", exclude_none=True))
        part.write_text(text, encoding="utf-8")
    return file


def copy_own_organs(experiment: Experiment, root: Path) -> None:
    """Copy the experiment's own organs to its working folder, where every step finds them.

    Raises
    ------
    TrainingSettingsInvalid
        If the file cannot be read or is invalid.
    ExperimentChanged
        If the folder has other organs.
    """
    own = root / OWN_ORGANS
    if experiment.organs is None or experiment.organs == own:
        return
    with_own_organs(experiment.organs)
    content = experiment.organs.read_bytes()
    if not own.is_file():
        with atomic_file(own) as part:
            part.write_bytes(content)
    elif own.read_bytes() != content:
        raise ExperimentChanged(f"{own} differs.")


def without_folders(experiment: Experiment) -> Experiment:
    """The experiment without the folders of its data sets, and without the path of its own organs."""
    names = [f"{database.name}=/" for database in experiment.databases]
    return with_folders(experiment, names).model_copy(update={"organs": None})
