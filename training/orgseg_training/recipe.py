"""What is to be trained, read from a recipe file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orgseg_node.errors import ConfigError
from orgseg_training.nnunet.run import Dataset, Schedule, Shape

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
    def dataset(self) -> Dataset:
        """Its nnU-Net data set."""
        return Dataset(number=self.dataset_id, name=self.name)


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

    def shape(self, part: PartRecipe) -> Shape:
        """What is said of the network of a part."""
        return Shape(
            spacing_mm=self.spacing_mm,
            patch_size=part.patch_size,
            features=part.features or self.features,
            batch_size=self.batch_size,
        )

    def schedule(self, part: PartRecipe, donor: PartRecipe | None) -> Schedule:
        """How a part is trained, starting from the network of `donor` where there is one."""
        return Schedule(
            learning_rate=part.learning_rate,
            epochs=part.epochs,
            iterations_per_epoch=part.iterations_per_epoch,
            seed=self.seed + part.dataset_id,
            warm_start=donor.dataset.folder if donor else "",
        )


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
