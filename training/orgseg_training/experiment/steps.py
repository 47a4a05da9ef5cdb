"""The steps of an experiment by name, as the workflow and the command line call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from orgseg_node.errors import OptionInvalid
from orgseg_training.curation.duplicates import find_duplicates
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.case_store import Ingested
from orgseg_training.datasets.registry import open_database
from orgseg_training.errors import NoPositives, NoScans, TrainingSettingsInvalid
from orgseg_training.experiment.combined_bundle import measure_bundle
from orgseg_training.experiment.complete import complete_batch, merge_all
from orgseg_training.experiment.coverage import require_drawn
from orgseg_training.experiment.exclusions import find_exclusions, signed_rejects
from orgseg_training.experiment.export_bundles import export_models
from orgseg_training.experiment.prepare import prepare_network
from orgseg_training.experiment.report import write_report
from orgseg_training.experiment.splits import Splits, is_held_out, lock_splits, make_splits, require_positives
from orgseg_training.experiment.validate import rank_organs, score_ensemble, validate_fold
from orgseg_training.experiment.workspace import Network, Workspace
from orgseg_training.nnunet.run import Machine, train

STEPS = ("ingest", "prepare", "train", "validate", "rank", "complete", "merge", "test", "bundle", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTarget:
    """What a step works on: a network by its name, one of its folds, or a batch of scans."""

    network: str | None = None
    fold: int | None = None
    batch: int | None = None

    def require(self, *names: str) -> None:
        """Raise OptionInvalid unless these were given."""
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise OptionInvalid(f"This step needs {', '.join(f'--{name}' for name in missing)}.")


def run_step(name: str, workspace: Workspace, target: StepTarget, machine: Machine) -> None:
    """Do one step; finished parts of it are not repeated.

    Parameters
    ----------
    name : one of `STEPS`
    workspace : of the experiment
    target : network, fold or batch, for the steps that need one
    machine : what networks run on

    Raises
    ------
    TrainingSettingsInvalid
        If there is no such step, network or fold.
    TrainingError, InferenceFailed, StorageError and the errors of the step itself
        If it fails; it can be run again.
    """
    if name in _STEPS_OF_EXPERIMENT:
        _STEPS_OF_EXPERIMENT[name](workspace)
    elif name == "complete":
        target.require("batch")
        complete_batch(workspace, target.batch or 0, machine)
    elif name == "bundle":
        measure_bundle(workspace, machine)
    elif name in _STEPS_OF_NETWORK:
        target.require("network")
        _STEPS_OF_NETWORK[name](workspace, _network(workspace, target), machine)
    elif name in _STEPS_OF_FOLD:
        target.require("network", "fold")
        _STEPS_OF_FOLD[name](workspace, _network(workspace, target), target.fold or 0, machine)
    else:
        raise OptionInvalid(f"There is no step {name!r}; there are {', '.join(STEPS)}.")


def _network(workspace: Workspace, target: StepTarget) -> Network:
    known = {network.name: network for network in workspace.networks}
    if target.network not in known:
        raise OptionInvalid(f"There is no network {target.network!r}; there are {', '.join(known)}.")
    if target.fold is not None and target.fold not in workspace.trained_folds:
        raise OptionInvalid(f"There are folds 0 to {workspace.trained_folds[-1]}.")
    return known[target.network]


def _prepare(workspace: Workspace, network: Network, machine: Machine) -> None:
    del machine
    if not workspace.splits_file.is_file():
        lock(workspace)
    prepare_network(workspace, network)


def _train(workspace: Workspace, network: Network, fold: int, machine: Machine) -> None:
    train(workspace.nnunet, network.dataset, workspace.schedule(network, fold), machine, fold)


def _report(workspace: Workspace) -> None:
    export_models(workspace)
    write_report(workspace)


def ingest(workspace: Workspace) -> Ingested:
    """Store the scans of all data sets, and decide what is left out; nothing is fixed before `lock`.

    Returns
    -------
    What was stored and what was not.

    Raises
    ------
    TrainingSettingsInvalid
        If too few scans can be used.
    NoPositives
        If an organ was drawn in no scan, or a fold has no scan in which an organ was drawn.
    RejectsInvalid, RejectsUnsigned
        If the reject list is not what was signed, or names an unknown scan or organ.
    CurationChanged
        If the splits were locked, and a scan, or what is left out, has changed since.
    SplitChanged
        If the splits were locked for other scans.
    """
    experiment, store = workspace.experiment, workspace.store
    signed_rejects(experiment)  # an unsigned list is refused before anything is read
    locked = workspace.splits_file.is_file()
    found = store.ingest(_sources(workspace), again=not locked, final=locked)
    try:
        splits = _split(workspace)
    except (TrainingSettingsInvalid, NoPositives) as error:  # few scans are left: say why
        raise type(error)(f"{error.detail} {store.why_not_used}".strip()) from error
    if locked:
        lock_splits(splits, workspace.splits_file)
    return found


def lock(workspace: Workspace) -> None:
    """Fix the splits, and what is left out, for good.

    Raises
    ------
    NoScans
        If no scan was ingested.
    TrainingSettingsInvalid, NoPositives, RejectsInvalid, RejectsUnsigned, CurationChanged, SplitChanged
        See `ingest`.
    """
    if not workspace.store.keys():
        raise NoScans(f"{workspace.store.root}.")
    lock_splits(_split(workspace), workspace.splits_file)


def proposed_splits(workspace: Workspace) -> Splits:
    """The locked splits, or those that would be locked now."""
    return workspace.splits if workspace.splits_file.is_file() else _split(workspace)


def _split(workspace: Workspace) -> Splits:
    """Decide which ingested scans are left out, and make the splits of the others."""
    experiment, store = workspace.experiment, workspace.store
    cases = store.ingested()
    require_drawn(cases, experiment.strategy_1, store.root / "coverage.json")
    pairs = find_duplicates(cases)
    decisions = find_exclusions(experiment, cases, pairs, held_out=partial(is_held_out, experiment))
    splits = make_splits(
        experiment,
        [case.without(decisions["organs"].get(case.key, ())) for case in cases],
        copies=[(pair.first, pair.second) for pair in pairs],
        left_out=decisions["cases"],
    )
    store.save_decisions(decisions, final=workspace.splits_file.is_file())
    require_positives(experiment, splits, store.cases())
    return splits


def _sources(workspace: Workspace) -> Iterator[SourceCase]:
    for database in workspace.experiment.databases:
        yield from open_database(
            database.kind, database.name, database.folder, database.options, workspace.organs
        )


_STEPS_OF_EXPERIMENT: Final[Mapping[str, Callable[[Workspace], object]]] = {
    "ingest": ingest,
    "rank": rank_organs,
    "merge": merge_all,
    "report": _report,
}
_STEPS_OF_NETWORK: Final[Mapping[str, Callable[[Workspace, Network, Machine], None]]] = {
    "prepare": _prepare,
    "test": score_ensemble,
}
_STEPS_OF_FOLD: Final[Mapping[str, Callable[[Workspace, Network, int, Machine], None]]] = {
    "train": _train,
    "validate": validate_fold,
}
