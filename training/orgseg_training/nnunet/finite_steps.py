"""Steps of training whose gradients or weights are not finite: undone and counted; too many end it.

With avx512_bf16 oneDNN has computed weight gradients from memory that was never written, so a healthy
training may meet such a step. Many of them mean that nothing is learned.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final

import torch

from orgseg_training.errors import TrainingNotFinite

WINDOW: Final = 100
MAX_IN_WINDOW: Final = 20
MAX_IN_A_ROW: Final = 10


class FiniteSteps:
    """Watches every step of an optimizer.

    Parameters
    ----------
    optimizer : its steps are watched from now on
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.undone = 0
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._in_a_row = 0
        self._weights = [p for group in optimizer.param_groups for p in group["params"]]
        self._before = [p.detach().clone() for p in self._weights]
        self._undone = False
        optimizer.register_step_pre_hook(self._check_gradients)
        optimizer.register_step_post_hook(self._check_weights)

    def _check_gradients(self, _optimizer: Any, _arguments: Any, _named: Any) -> None:
        gradients = [p.grad for p in self._weights if p.grad is not None]
        self._undone = not _are_finite(gradients)
        if self._undone:
            for parameter in self._weights:
                parameter.grad = None  # the optimizer leaves a parameter without gradient as it is
            return
        with torch.no_grad():
            torch._foreach_copy_(self._before, self._weights)  # has no public name

    def _check_weights(self, _optimizer: Any, _arguments: Any, _named: Any) -> None:
        if not self._undone and not _are_finite(self._weights):
            with torch.no_grad():
                torch._foreach_copy_(self._weights, self._before)
            self._undone = True

    def record(self, loss: float) -> None:
        """Count a step that is over.

        Parameters
        ----------
        loss : of the step; not finite where a gradient scaler left the step out itself

        Raises
        ------
        TrainingNotFinite
            If too many of the last steps were undone.
        """
        undone = self._undone or not math.isfinite(loss)
        self._undone = False
        self._recent.append(undone)
        self._in_a_row = self._in_a_row + 1 if undone else 0
        self.undone += undone
        if self._in_a_row >= MAX_IN_A_ROW or sum(self._recent) >= MAX_IN_WINDOW:
            raise TrainingNotFinite(f"{sum(self._recent)} of the last {len(self._recent)} steps were undone.")


def require_finite(network: torch.nn.Module) -> None:
    """Refuse to store weights that are not finite.

    Raises
    ------
    TrainingNotFinite
        With the name of the first such tensor.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TrainingNotFinite(f"The weights {name} are not finite; they were not stored.")


def _are_finite(tensors: list[torch.Tensor]) -> bool:
    if not tensors:
        return True
    norms = torch.stack([norm.float() for norm in torch._foreach_norm(tensors)])  # noqa: SLF001
    return bool(torch.isfinite(norms).all())
