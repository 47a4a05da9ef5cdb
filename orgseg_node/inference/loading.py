"""From a bundle on disk to something that finds organs."""

from __future__ import annotations

from orgseg_node.core.organs import OrganTable
from orgseg_node.inference.backends.context import choose_device
from orgseg_node.inference.backends.streaming import StreamingPredictor
from orgseg_node.inference.bundles.bundle import ModelBundle, verify_bundle
from orgseg_node.inference.predictor import Backend, Device, InferenceSettings, Method, Predictor


def load_predictor(bundle: ModelBundle, organs: OrganTable, settings: InferenceSettings) -> Predictor:
    """Make a bundle ready to run: its files are hashed again and its networks are loaded when first needed.

    Raises
    ------
    BundleHashMismatch
        If a file is not the one that was imported.
    OrganUnknown
        If an organ of the bundle is not in the organ table.
    NotStreamable
        If the streaming engine is asked for and cannot run the bundle.
    NotCalibrated
        If the fast mode is asked for and was not measured, or was not good enough, for the bundle.
    FastModeMissing
        If the fast mode is asked for and OpenVINO is not installed.
    EnvironmentFault
        If a GPU is asked for and there is none.
    """
    verify_bundle(bundle)
    for key in bundle.manifest.organs:
        organs[key]
    device = choose_device(Device.CPU if settings.backend == Backend.FAST else settings.device)
    if settings.method == Method.STREAMING:
        return StreamingPredictor(bundle, organs, settings, device)
    from orgseg_node.inference.backends.nnunet import NnunetPredictor  # noqa: PLC0415  # brings in what streaming does without

    return NnunetPredictor(bundle, organs, settings, device)
