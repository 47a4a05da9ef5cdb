"""From names of model bundles to something that finds organs; torch is imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orgseg_node.core.organs import load_organs
from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle
from orgseg_node.inference.predictor import InferenceSettings, MergedPredictor, Predictor
from orgseg_node.shipped import shipped_config


def open_bundles(names: Sequence[str], folders: Sequence[Path]) -> tuple[ModelBundle, ...]:
    """The bundles of these names, each once, in their order.

    Raises
    ------
    UnknownBundle, BundleInvalid
        If one is not there or is broken.
    """
    return tuple(find_bundle(name, folders) for name in dict.fromkeys(names))


def open_predictor(bundles: Sequence[ModelBundle], settings: InferenceSettings) -> Predictor:
    """What runs these bundles; several are merged, the organ of higher priority winning a voxel.

    Raises
    ------
    BundleHashMismatch, BundleInvalid, OrganUnknown
        If a bundle is not what was imported, or names an organ that is not in the organ table.
    EnvironmentFault
        If a GPU is asked for and there is none.
    """
    from orgseg_node.inference.loading import load_predictor  # noqa: PLC0415  # torch: seconds and memory

    organs = load_organs(shipped_config("organs.toml"))
    predictors = [load_predictor(bundle, organs, settings) for bundle in bundles]
    if len(predictors) == 1:
        return predictors[0]
    priorities = {key: value for bundle in bundles for key, value in bundle.manifest.priorities.items()}
    return MergedPredictor(predictors=predictors, organs=organs, priorities=priorities)
