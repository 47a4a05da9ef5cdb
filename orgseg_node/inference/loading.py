"""From bundles on disk to a predictor; torch, whose import takes seconds, is imported when one is opened."""

from __future__ import annotations

from collections.abc import Sequence

from orgseg_node.core.organs import OrganTable
from orgseg_node.inference.bundles.bundle import ModelBundle, verify_bundle
from orgseg_node.inference.merging import MergedPredictor
from orgseg_node.inference.predictor import Backend, Device, InferenceSettings, Method, Predictor
from orgseg_node.organ_table import organ_table


def open_predictor(bundles: Sequence[ModelBundle], settings: InferenceSettings) -> Predictor:
    """The predictor that runs these bundles; where organs of several overlap, the higher priority wins.

    Raises
    ------
    BundleHashMismatch, BundleInvalid, OrganUnknown
        If a bundle is not the one that was imported, or names an organ that is not in the organ table.
    EnvironmentFault
        If the settings ask for a GPU and there is none.
    """
    organs = organ_table()
    predictors = [load_predictor(bundle, organs, settings) for bundle in bundles]
    if len(predictors) == 1:
        return predictors[0]
    priorities = {key: value for bundle in bundles for key, value in bundle.manifest.priorities.items()}
    return MergedPredictor(predictors=predictors, organs=organs, priorities=priorities)


def load_predictor(bundle: ModelBundle, organs: OrganTable, settings: InferenceSettings) -> Predictor:
    """Make one bundle ready to run: its files are hashed again; its networks are loaded on first use.

    Parameters
    ----------
    bundle : an opened bundle
    organs : the organ table
    settings : method, backend, device, threads and memory

    Raises
    ------
    BundleHashMismatch
        If a file is not the one that was imported.
    OrganUnknown
        If an organ of the bundle is not in the organ table.
    NotStreamable
        If the settings ask for the streaming engine and it cannot run the bundle.
    NotCalibrated
        If the settings ask for the fast mode and the bundle has no sufficient calibration of it.
    FastModeMissing
        If the settings ask for the fast mode and OpenVINO is not installed.
    EnvironmentFault
        If the settings ask for a GPU and there is none.
    """
    from orgseg_node.inference.backends.context import choose_device  # noqa: PLC0415  # imports torch

    verify_bundle(bundle)
    for key in bundle.manifest.organs:
        organs[key]
    device = choose_device(Device.CPU if settings.backend == Backend.FAST else settings.device)
    if settings.method == Method.STREAMING:
        from orgseg_node.inference.backends.streaming import StreamingPredictor  # noqa: PLC0415

        return StreamingPredictor(bundle, organs, settings, device)
    from orgseg_node.inference.backends.nnunet import NnunetPredictor  # noqa: PLC0415  # imports pandas, scikit-image

    return NnunetPredictor(bundle, organs, settings, device)


def preload_streaming() -> None:
    """Import the streaming engine and torch now, so that the first predictor of this process opens faster."""
    from orgseg_node.inference.backends import streaming  # noqa: F401, PLC0415  # the import is the purpose
