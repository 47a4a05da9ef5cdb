"""The steps of an experiment by name, as the workflow and the command line call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from orgseg_node.errors import ConfigError
from orgseg_training.curation.duplicates import find_pairs
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.registry import open_database
from orgseg_training.experiment.combined_bundle import measure_bundle
from orgseg_training.experiment.complete import complete, merge_all
from orgseg_training.experiment.coverage import require_drawn
from orgseg_training.experiment.exclusions import decide, signed_rejects
from orgseg_training.experiment.export_bundles import export_models
from orgseg_training.experiment.prepare import prepare
from orgseg_training.experiment.report import report
from orgseg_training.experiment.splits import is_held, lock, make_splits, need_positives
from orgseg_training.experiment.validate import rank, test, validate
from orgseg_training.experiment.workspace import Network, Work
from orgseg_training.nnunet.run import Machine, train

STEPS = ("ingest", "prepare", "train", "validate", "rank", "complete", "merge", "test", "bundle", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """What a step is done for: a network by its name, one of its folds, or a batch of scans."""

    network: str | None = None
    fold: int | None = None
    batch: int | None = None

    def need(self, *names: str) -> None:
        """Raise ConfigError unless these were given."""
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise ConfigError(f"This step needs {', '.join(f'--{name}' for name in missing)}.")


def run_step(name: str, work: Work, which: Which, machine: Machine) -> None:
    """Do one step; what of it is done already is not done again.

    Raises
    ------
    ConfigError
        If there is no such step, network or fold.
    TrainingError, InferenceFailed, StorageError and what the step itself says
        If it fails; it can be run again.
    """
    if name in _WHOLE:
        _WHOLE[name](work)
    elif name == "complete":
        which.need("batch")
        complete(work, which.batch or 0, machine)
    elif name == "bundle":
        measure_bundle(work, machine)
    elif name in _NETWORK:
        which.need("network")
        _NETWORK[name](work, _named(work, which), machine)
    elif name in _FOLD:
        which.need("network", "fold")
        _FOLD[name](work, _named(work, which), which.fold or 0, machine)
    else:
        raise ConfigError(f"There is no step {name!r}; there are {', '.join(STEPS)}.")


def _named(work: Work, which: Which) -> Network:
    known = {network.name: network for network in work.networks}
    if which.network not in known:
        raise ConfigError(f"There is no network {which.network!r}; there are {', '.join(known)}.")
    if which.fold is not None and which.fold not in work.trained_folds:
        raise ConfigError(f"There are folds 0 to {work.trained_folds[-1]}.")
    return known[which.network]


def _prepare(work: Work, network: Network, machine: Machine) -> None:
    del machine
    prepare(work, network)


def _train(work: Work, network: Network, fold: int, machine: Machine) -> None:
    train(work.workspace, network.dataset, work.schedule(network, fold), machine, fold)


def _report(work: Work) -> None:
    export_models(work)
    report(work)


def ingest(work: Work) -> None:
    """Take the scans of all data sets in, and lock who is trained on.

    Raises
    ------
    ConfigError
        If too few scans can be used.
    NoPositives
        If an organ was drawn in no scan, or a fold has no scan in which an organ was drawn.
    RejectsInvalid, RejectsUnsigned
        If the list of rejects is not what was signed, or names what is not there.
    CurationChanged
        If something else was left out before the splits were locked.
    SplitChanged
        If other scans were locked before.
    """
    experiment, store = work.experiment, work.store
    signed_rejects(experiment)  # nothing is read for a list that is not signed
    store.take_in(_sources(work))
    taken = store.taken_in()
    require_drawn(taken, experiment.strategy_1, store.root / "coverage.json")
    pairs = find_pairs(taken)
    decisions = decide(experiment, taken, pairs, held=partial(is_held, experiment))
    splits = make_splits(
        experiment,
        [case.without(decisions["organs"].get(case.key, ())) for case in taken],
        copies=[(pair.first, pair.second) for pair in pairs],
        left_out=decisions["cases"],
    )
    store.decide(decisions, final=work.lock.is_file())
    need_positives(experiment, splits, store.cases())
    lock(splits, work.lock)


def _sources(work: Work) -> Iterator[SourceCase]:
    for database in work.experiment.databases:
        yield from open_database(database.kind, database.name, database.folder, database.options)


_WHOLE: Final[Mapping[str, Callable[[Work], object]]] = {
    "ingest": ingest,
    "rank": rank,
    "merge": merge_all,
    "report": _report,
}
_NETWORK: Final[Mapping[str, Callable[[Work, Network, Machine], None]]] = {"prepare": _prepare, "test": test}
_FOLD: Final[Mapping[str, Callable[[Work, Network, int, Machine], None]]] = {
    "train": _train,
    "validate": validate,
}
