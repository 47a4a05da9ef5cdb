"""How long and how fast a network is fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A schedule of fine-tuning.

    Attributes
    ----------
    name : of the recipe
    blocks : number of blocks, each of which ends with a validation
    steps_per_block : training steps of a block
    learning_rate : highest one, after the warm-up
    warm_up : steps until it is reached
    patience : blocks without improvement after which training ends
    validation_cases : scans of a validation, at most
    mirrored : half of the patches are mirrored from left to right, with left and right organs exchanged; for
        regions that look alike on both sides
    balanced : half of the patches are laid around organs; each organ gets the same number of these, however
        rarely it is drawn
    outside_share : part of the patches not laid around organs that are taken from scans in which no organ is
        drawn but some are known to be outside; with 0 these scans are taken as often as any other one
    shifted : in the end the logit of the background is lowered by the number that gives the validation scans
        the highest mean Dice; see `nnunet.background_shift`
    """

    name: str
    blocks: int
    steps_per_block: int
    learning_rate: float = 1e-3
    warm_up: int = 50
    patience: int = 6
    validation_cases: int = 6
    mirrored: bool = False
    balanced: bool = False
    outside_share: float = 0.0
    shifted: bool = False

    @property
    def steps(self) -> int:
        """Training steps in all."""
        return self.blocks * self.steps_per_block


RECIPES: Final[Mapping[str, Recipe]] = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="cpu", blocks=15, steps_per_block=100),
        Recipe(name="gpu", blocks=40, steps_per_block=250, warm_up=250, patience=10, validation_cases=20),
        Recipe(name="trial", blocks=2, steps_per_block=30, warm_up=10, validation_cases=2),
    )
}
"""Recipes by name: for a few CPU cores, for a GPU, and to try whether everything works."""


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """The same recipe with another number of steps, rounded up to whole blocks of at most the same length.

    Parameters
    ----------
    recipe : the recipe
    steps : training steps in all
    """
    blocks = max(1, -(-steps // recipe.steps_per_block))
    per_block = -(-steps // blocks)
    return replace(
        recipe,
        blocks=blocks,
        steps_per_block=per_block,
        warm_up=min(recipe.warm_up, max(1, steps // 4)),
    )
