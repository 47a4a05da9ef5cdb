"""The files of an experiment, and its networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orgseg_node.core.organs import OrganTable
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.organ_table import organs_of_folder
from orgseg_training.experiment.config import Experiment, NetworkSettings
from orgseg_training.experiment.splits import Splits, read_splits
from orgseg_training.nnunet.run import Dataset, NetworkShape, NnunetFolders, Schedule

_STRATEGY_1_NUMBER: Final = 101
_STRATEGY_2_NUMBER: Final = 901


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network of the experiment, with all its folds.

    Attributes
    ----------
    strategy : 1 or 2
    settings : name, organs, and settings that differ from those of the experiment
    dataset : its nnU-Net data set
    """

    strategy: int
    settings: NetworkSettings
    dataset: Dataset

    @property
    def name(self) -> str:
        """Its name in the experiment; by default the organ, and ``all`` for strategy 2."""
        return self.settings.name

    @property
    def organs(self) -> tuple[str, ...]:
        """Its organs; label number = position in this list, from 1."""
        return self.settings.organs


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """An experiment and its working folder.

    ::

        store/            scans, one folder each
        splits.lock.json  scans for training, validation and test; never changed
        cropped/          each CT cropped to the body
        nnunet/           nnU-Net's three folders
        bundles/          bundles of networks, for the measurements
        models/           bundles with the scores in their model cards, for a node
        scores/           per-case scores (Parquet)
        completed/        predicted masks of organs that were not drawn
        merged/           the completed set
        qc/               pictures and findings of `orgseg-train qc`
        rank.json         Dice of each organ in the cross-validation
        report/           tables and plots
    """

    experiment: Experiment
    root: Path

    @property
    def store(self) -> CaseStore:
        """The scans."""
        return CaseStore(self.root / "store")

    @property
    def quality_folder(self) -> Path:
        """Results of quality control."""
        return self.root / "qc"

    @property
    def splits_file(self) -> Path:
        """File of the locked splits."""
        return self.root / "splits.lock.json"

    @property
    def splits(self) -> Splits:
        """The locked splits. Raises SplitChanged or StorageError."""
        return read_splits(self.splits_file)

    @property
    def nnunet(self) -> NnunetFolders:
        """nnU-Net's folders."""
        return NnunetFolders(root=self.root / "nnunet")

    @property
    def organs(self) -> OrganTable:
        """The organ table, with the organs of the experiment's own that are in the folder."""
        return organs_of_folder(self.root)

    @property
    def networks(self) -> tuple[Network, ...]:
        """Every network: those of strategy 1, and that of strategy 2 if there is one."""
        trainer = self.experiment.training.trainer
        networks = [
            Network(
                strategy=1,
                settings=settings,
                dataset=Dataset(number=_STRATEGY_1_NUMBER + n, name=settings.name, trainer=trainer),
            )
            for n, settings in enumerate(self.experiment.networks_of_strategy_1)
        ]
        if self.experiment.strategy_2:
            settings = NetworkSettings.model_construct(name="all", organs=self.experiment.strategy_2)
            dataset = Dataset(number=_STRATEGY_2_NUMBER, name="all", trainer=trainer)
            networks.append(Network(strategy=2, settings=settings, dataset=dataset))
        return tuple(networks)

    @property
    def networks_of_strategy_1(self) -> tuple[Network, ...]:
        """The networks of strategy 1."""
        return tuple(network for network in self.networks if network.strategy == 1)

    @property
    def trained_folds(self) -> range:
        """Numbers of the folds that are trained."""
        return range(self.experiment.trained_folds or self.experiment.folds)

    def network(self, name: str) -> Network:
        """A network by its name. Raises KeyError."""
        return {network.name: network for network in self.networks}[name]

    def pretrained_network(self, network: Network) -> Network | None:
        """The network whose weights another one starts from, if any."""
        name = network.settings.warm_start
        return None if name is None else self.network(name)

    def shape(self, network: Network) -> NetworkShape | None:
        """Shape of a network; None if nnU-Net plans it."""
        plan, own = self.experiment.plan, network.settings
        if plan.kind == "nnunet":
            return None
        return NetworkShape(
            spacing_mm=plan.spacing_mm,
            patch_size=own.patch_size or plan.patch_size,
            features=own.features or plan.features,
            batch_size=plan.batch_size,
        )

    def schedule(self, network: Network, fold: int) -> Schedule:
        """How a fold of a network is trained."""
        training, own, pretrained = (
            self.experiment.training,
            network.settings,
            self.pretrained_network(network),
        )
        return Schedule(
            learning_rate=own.learning_rate or training.learning_rate,
            epochs=own.epochs or training.epochs,
            iterations_per_epoch=own.iterations_per_epoch or training.iterations_per_epoch,
            seed=self.experiment.seed + 10 * network.dataset.number + fold,
            warm_start=pretrained.dataset.folder if pretrained else "",
            max_minutes=training.max_minutes,
        )

    def cropped(self, key: str) -> Path:
        """The CT of a scan cropped to the body; the box is next to it as JSON."""
        return self.root / "cropped" / f"{key}.nii.gz"

    def completed(self, key: str, organ: str) -> Path:
        """The mask of an organ that was not drawn in a scan."""
        return self.root / "completed" / key / f"{organ}.nii.gz"

    def merged(self, key: str) -> Path:
        """Label image of all organs of strategy 2 in a scan."""
        return self.root / "merged" / f"{key}.nii.gz"

    def scores(self, name: str) -> Path:
        """Scores of one step."""
        return self.root / "scores" / f"{name}.parquet"

    def batches(self, splits: Splits | None = None) -> Sequence[tuple[str, ...]]:
        """The scans of the cross-validation in batches, for completion; of the locked splits by default."""
        keys = sorted((splits or self.splits).development)
        size = self.experiment.batch
        return [tuple(keys[start : start + size]) for start in range(0, len(keys), size)]
