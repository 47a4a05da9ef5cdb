"""Steps whose gradients or weights are not finite never reach the weights, and too many end the training."""

from __future__ import annotations

import pytest
import torch

from orgseg_training.errors import TrainingNotFinite
from orgseg_training.nnunet.finite_steps import MAX_IN_A_ROW, MAX_IN_WINDOW, FiniteSteps, require_finite


class _Training:
    def __init__(self, rate: float = 0.1) -> None:
        torch.manual_seed(1)
        self.network = torch.nn.Linear(3, 1)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), rate)
        self.watch = FiniteSteps(self.optimizer)

    def step(self, factor: float = 1.0) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.network(torch.ones(2, 3)).square().mean()
        loss.backward()
        self.network.weight.grad.mul_(factor)
        self.optimizer.step()
        self.watch.record(loss.item())

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten().clone() for p in self.network.parameters()])


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_step_with_such_gradients_changes_nothing_and_the_next_one_trains(factor: float) -> None:
    training = _Training()
    training.step()
    before = training.weights()
    training.step(factor)
    assert torch.equal(training.weights(), before)
    training.step()
    assert bool(torch.isfinite(training.weights()).all())
    assert not torch.equal(training.weights(), before)
    assert training.watch.undone == 1


def test_weights_that_a_step_made_infinite_are_taken_back() -> None:
    training = _Training()
    before = training.weights()
    training.optimizer.param_groups[0]["lr"] = float("inf")
    training.step()
    assert torch.equal(training.weights(), before)
    assert training.watch.undone == 1


def test_many_in_a_row_end_the_training() -> None:
    training = _Training()
    for _ in range(MAX_IN_A_ROW - 1):
        training.step(float("nan"))
    with pytest.raises(TrainingNotFinite, match=f"{MAX_IN_A_ROW} of the last {MAX_IN_A_ROW} steps"):
        training.step(float("nan"))


def test_many_among_good_ones_end_the_training() -> None:
    training = _Training(rate=1e-4)
    for number in range(2 * (MAX_IN_WINDOW - 1)):
        training.step(float("nan") if number % 2 == 0 else 1.0)
    with pytest.raises(TrainingNotFinite):
        training.step(float("nan"))


def test_a_step_that_a_gradient_scaler_left_out_counts_by_its_loss() -> None:
    training = _Training()
    for _ in range(MAX_IN_A_ROW - 1):
        training.watch.record(float("nan"))
    with pytest.raises(TrainingNotFinite):
        training.watch.record(float("nan"))


def test_weights_that_are_not_finite_are_named_and_not_stored() -> None:
    network = torch.nn.Linear(3, 1)
    require_finite(network)
    network.bias.data[0] = float("nan")
    with pytest.raises(TrainingNotFinite, match="bias"):
        require_finite(network)
