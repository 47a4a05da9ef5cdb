"""Estimate of time and disk space before an experiment is run."""

from __future__ import annotations

from dataclasses import dataclass

from orgseg_training.datasets.case import OrganState
from orgseg_training.errors import TrainingSettingsInvalid
from orgseg_training.experiment.config import AssumedSizes, Experiment
from orgseg_training.experiment.prepare import training_cases
from orgseg_training.experiment.splits import Splits
from orgseg_training.experiment.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Amount of work, and about how much time and disk space it takes with the costs in the experiment file.

    Attributes
    ----------
    scans, networks, trainings, predictions : numbers of them
    hours : of computing, one step after the other
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


def estimate(workspace: Workspace, splits: Splits) -> Estimate:
    """Estimate an experiment with ingested scans and their splits.

    Raises
    ------
    StorageError
        If the scans were not ingested yet.
    """
    experiment, cases = workspace.experiment, workspace.store.cases()
    development = [case for case in cases if case.key in splits.development]
    tested = [case for case in cases if case.key in splits.tested]
    return _estimate(
        experiment,
        AssumedSizes.model_construct(
            development=len(development),
            tested=len(tested),
            drawn=sum(
                len(training_cases(workspace, network, splits))
                for network in workspace.networks_of_strategy_1
            ),
            missing=sum(
                case.state(organ) is OrganState.NOT_DRAWN
                for case in development
                for organ in experiment.strategy_2
            ),
        ),
    )


def estimate_assumed(experiment: Experiment) -> Estimate:
    """Estimate an experiment without its data.

    Raises
    ------
    TrainingSettingsInvalid
        If it has no section ``assumed``.
    """
    if experiment.assumed is None:
        raise TrainingSettingsInvalid("The experiment has no section assumed, so its data sets are needed.")
    return _estimate(experiment, experiment.assumed)


def batches_assumed(experiment: Experiment) -> int:
    """Number of batches of completion for the assumed number of scans."""
    return 0 if experiment.assumed is None else -(-experiment.assumed.development // experiment.batch)


def _estimate(experiment: Experiment, sizes: AssumedSizes) -> Estimate:
    networks = len(experiment.networks_of_strategy_1) + bool(experiment.strategy_2)
    folds = experiment.trained_folds or experiment.folds
    trainings = networks * folds
    validations = sizes.drawn + (sizes.development if experiment.strategy_2 else 0)
    ensembles = networks * sizes.tested + sizes.missing
    if experiment.bundle:  # all networks of strategy 1 again, together
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
