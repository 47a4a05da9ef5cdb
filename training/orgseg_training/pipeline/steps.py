"""The steps of an experiment by name, as the workflow and the command line call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from orgseg_node.errors import ConfigError
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.registry import open_database
from orgseg_training.nnunet_run import Machine, train
from orgseg_training.pipeline.completing import complete, merge_all
from orgseg_training.pipeline.coverage import require_drawn
from orgseg_training.pipeline.measuring import rank, test, validate
from orgseg_training.pipeline.preparing import prepare
from orgseg_training.pipeline.reporting import report
from orgseg_training.pipeline.splits import lock, make_splits
from orgseg_training.pipeline.work import Network, Work

STEPS = ("ingest", "prepare", "train", "validate", "rank", "complete", "merge", "test", "report")


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
    if which.fold is not None and which.fold >= work.experiment.folds:
        raise ConfigError(f"There are folds 0 to {work.experiment.folds - 1}.")
    return known[which.network]


def _prepare(work: Work, network: Network, machine: Machine) -> None:
    del machine
    prepare(work, network)


def _train(work: Work, network: Network, fold: int, machine: Machine) -> None:
    train(work.workspace, network.dataset, work.schedule(network, fold), machine, fold)


def ingest(work: Work) -> None:
    """Take the scans of all data sets in, and lock who is trained on.

    Raises
    ------
    ConfigError
        If too few scans can be used.
    NoPositives
        If an organ was drawn in none of them.
    SplitChanged
        If other scans were locked before.
    """
    work.store.take_in(_sources(work))
    cases = work.store.cases()
    require_drawn(cases, work.experiment.strategy_1, work.store.root / "coverage.json")
    lock(make_splits(work.experiment, cases), work.lock)


def _sources(work: Work) -> Iterator[SourceCase]:
    for database in work.experiment.databases:
        yield from open_database(database.kind, database.name, database.folder, database.options)


_WHOLE: Final[Mapping[str, Callable[[Work], object]]] = {
    "ingest": ingest,
    "rank": rank,
    "merge": merge_all,
    "report": report,
}
_NETWORK: Final[Mapping[str, Callable[[Work, Network, Machine], None]]] = {"prepare": _prepare, "test": test}
_FOLD: Final[Mapping[str, Callable[[Work, Network, int, Machine], None]]] = {
    "train": _train,
    "validate": validate,
}
