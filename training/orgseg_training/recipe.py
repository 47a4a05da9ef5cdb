"""What is to be trained, read from a recipe file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orgseg_node.errors import ConfigError

Triple = tuple[float, float, float]
Counts = tuple[int, int, int]
Positive = Annotated[int, Field(gt=0)]
# nnU-Net weighs the outputs of deep supervision by 0/0 where a network has fewer stages
Channels = Annotated[tuple[Positive, ...], Field(min_length=3)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartRecipe(_Strict):
    """One network.

    Attributes
    ----------
    name : folder name of the part
    dataset_id : nnU-Net dataset number, 1 to 999
    organs : keys of the organ table; label numbers are their places, from 1
    patch_size : voxels along the axes in the order of nnU-Net's plan (widest spacing first); multiples of 16
    features : channels of each stage, those of the recipe where not given; fewer stages make a smaller file
    warm_start : name of an earlier part whose weights, all but the last layer, are the start
    """

    name: str
    dataset_id: Annotated[int, Field(ge=1, le=999)]
    organs: tuple[str, ...]
    patch_size: Counts
    learning_rate: float
    epochs: Positive
    iterations_per_epoch: Positive
    features: Channels | None = None
    warm_start: str | None = None

    @property
    def dataset_name(self) -> str:
        """Such as ``Dataset801_common``."""
        return f"Dataset{self.dataset_id:03d}_{self.name}"


class Recipe(_Strict):
    """A bundle and the networks it is made of."""

    seed: int
    name: str
    version: str
    title: str
    intended_use: str
    trained_on: str
    licence: str
    spacing_mm: Triple
    body_margin_mm: float
    features: Channels
    batch_size: Positive
    validation_cases: Positive
    parts: tuple[PartRecipe, ...]


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    ConfigError
        With every problem of the file.
    """
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(str(p) for p in e['loc'])} {e['msg'].lower()}" for e in error.errors()]
        raise ConfigError(f"{path.name}: {len(lines)} problems\n" + "\n".join(lines)) from error
