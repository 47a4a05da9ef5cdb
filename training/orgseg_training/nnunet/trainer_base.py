"""Base of our trainers: nnU-Net's with a schedule from the plans, atomic checkpoints and a time limit.

A step whose gradients or weights are not finite is undone, and a checkpoint never holds such weights.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from orgseg_node.durable import atomic_file
from orgseg_training.nnunet.finite_steps import FiniteSteps, require_finite


class nnUNetTrainerOrgseg(nnUNetTrainer):  # type: ignore[misc] # noqa: N801 - nnU-Net names its trainers so
    """3d_fullres as nnU-Net trains it, with the schedule ``orgseg_schedule`` of the plans."""

    def __init__(  # the signature nnU-Net calls
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device,
    ) -> None:
        schedule = plans["orgseg_schedule"]
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = schedule["learning_rate"]
        self.num_epochs = schedule["epochs"]
        self.num_iterations_per_epoch = schedule["iterations_per_epoch"]
        self.save_every = 25  # nnU-Net's 50 epochs would be hours lost when a job is interrupted
        self._seed = schedule["seed"]
        self._warm_start = schedule["warm_start"]
        minutes = schedule["max_minutes"]
        self._ends = None if minutes is None else time.monotonic() + 60.0 * minutes

    def initialize(self) -> None:
        """Seed the random generators and build the network."""
        torch.manual_seed(self._seed)
        np.random.seed(self._seed)  # noqa: NPY002 - nnU-Net's augmentation draws from the global generator
        super().initialize()
        self.finite_steps = FiniteSteps(self.optimizer)

    def run_training(self) -> None:
        """Train until the last epoch; nnU-Net's loop does not see that `on_epoch_end` lowers its number."""
        self.on_train_start()
        while self.current_epoch < self.num_epochs:
            self.on_epoch_start()
            self.on_train_epoch_start()
            results = []
            for _ in range(self.num_iterations_per_epoch):
                results.append(self.train_step(next(self.dataloader_train)))
                self.finite_steps.record(float(results[-1]["loss"]))
            self.on_train_epoch_end(results)
            with torch.no_grad():
                self.on_validation_epoch_start()
                steps = range(self.num_val_iterations_per_epoch)
                self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val)) for _ in steps])
            self.on_epoch_end()
        self.on_train_end()

    def on_epoch_end(self) -> None:
        """End the training after this epoch if the time limit is reached."""
        if self._ends is not None and time.monotonic() > self._ends:
            self.print_to_log_file(f"The time limit is reached after {self.current_epoch + 1} epochs.")
            self.num_epochs = self.current_epoch + 1
        if self.finite_steps.undone:
            self.print_to_log_file(f"Steps undone, not finite: {self.finite_steps.undone}.")
        super().on_epoch_end()

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint completely or not at all, so that a run killed here can continue.

        Raises
        ------
        TrainingNotFinite
            If the weights are not finite; the checkpoint before stays.
        """
        if self.local_rank or self.disable_checkpointing:
            super().save_checkpoint(filename)  # writes nothing
            return
        require_finite(self.network)
        with atomic_file(Path(filename)) as part:
            super().save_checkpoint(str(part))
