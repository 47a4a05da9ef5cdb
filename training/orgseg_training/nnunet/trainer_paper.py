"""The study's trainer: as nnU-Net trains, but longer.

Stochastic gradient descent with Nesterov momentum 0.99 and an initial learning rate of 0.01, poly schedule,
weight decay 3e-5 (in the study called a decay of the learning rate), mirroring in training and prediction.
"""

from __future__ import annotations

from orgseg_training.nnunet.trainer_base import nnUNetTrainerOrgseg


class nnUNetTrainerOrgsegPaper(nnUNetTrainerOrgseg):  # noqa: N801 - nnU-Net names its trainers so
    """3d_fullres with nnU-Net's defaults."""
