"""What an experiment will take before any of it is done."""

from __future__ import annotations

from dataclasses import dataclass

from orgseg_node.errors import ConfigError
from orgseg_training.datasets.case import OrganState
from orgseg_training.experiment.config import Assumed, Experiment
from orgseg_training.experiment.prepare import cases_of
from orgseg_training.experiment.workspace import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is to be done, and about how much it takes with the costs the experiment names.

    Attributes
    ----------
    scans, networks, trainings, predictions : how many
    hours : of computing, one after the other
    gigabytes : of nnU-Net's preprocessed copies
    """

    scans: int
    networks: int
    trainings: int
    predictions: int
    hours: float
    gigabytes: float

    def __str__(self) -> str:
        return (
            f"{self.scans} scans, {self.networks} networks, {self.trainings} trainings, "
            f"{self.predictions} predictions; about {self.hours:.1f} hours and {self.gigabytes:.1f} GB"
        )


def estimate(work: Work) -> Estimate:
    """Count what an experiment whose scans are taken in will take.

    Raises
    ------
    StorageError
        If the scans were not taken in yet.
    """
    experiment, splits, cases = work.experiment, work.splits, work.store.cases()
    development = [case for case in cases if case.key in splits.development]
    tested = [case for case in cases if case.key in splits.tested]
    return _estimate(
        experiment,
        Assumed.model_construct(
            development=len(development),
            tested=len(tested),
            drawn=sum(len(cases_of(work, network)) for network in work.first_networks),
            missing=sum(
                case.state(organ) is OrganState.NOT_DRAWN
                for case in development
                for organ in experiment.strategy_2
            ),
        ),
    )


def estimate_assumed(experiment: Experiment) -> Estimate:
    """The same for an experiment whose data are not here. Raises ConfigError if it assumes nothing."""
    if experiment.assumed is None:
        raise ConfigError("The experiment has no section assumed, so its data sets must be here.")
    return _estimate(experiment, experiment.assumed)


def batches_assumed(experiment: Experiment) -> int:
    """Batches of completion for the assumed number of scans."""
    return 0 if experiment.assumed is None else -(-experiment.assumed.development // experiment.batch)


def _estimate(experiment: Experiment, sizes: Assumed) -> Estimate:
    networks = len(experiment.networks_of_strategy_1) + bool(experiment.strategy_2)
    folds = experiment.trained_folds or experiment.folds
    trainings = networks * folds
    validations = sizes.drawn + (sizes.development if experiment.strategy_2 else 0)
    ensembles = networks * sizes.tested + sizes.missing
    if experiment.bundle:  # all networks of strategy 1 once more, together
        ensembles += len(experiment.networks_of_strategy_1) * sizes.tested
    predictions = validations * folds // experiment.folds + folds * ensembles
    costs = experiment.costs
    return Estimate(
        scans=sizes.development + sizes.tested,
        networks=networks,
        trainings=trainings,
        predictions=predictions,
        hours=trainings * costs.hours_per_network + predictions * costs.seconds_per_prediction / 3600,
        gigabytes=networks * costs.gigabytes_per_dataset,
    )
