"""The study's trainer: nnU-Net's own recipe, longer.

Stochastic gradient descent with Nesterov momentum 0.99 from a rate of 0.01, poly schedule, weight decay 3e-5
(which the study calls a decay of the rate), mirroring in training and use.
"""

from __future__ import annotations

from orgseg_training.nnunet.trainer_base import nnUNetTrainerOrgseg


class nnUNetTrainerOrgsegPaper(nnUNetTrainerOrgseg):  # noqa: N801 - nnU-Net names its trainers so
    """3d_fullres with nnU-Net's defaults."""
