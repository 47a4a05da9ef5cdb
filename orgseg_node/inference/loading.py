"""From bundles on disk to a predictor; torch, whose import takes seconds, is imported when one is opened."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from orgseg_node.core.organs import OrganTable
from orgseg_node.inference.bundles.bundle import ModelBundle, verify_bundle
from orgseg_node.inference.merging import MergedPredictor, rank_organs
from orgseg_node.inference.predictor import Backend, Device, InferenceSettings, Method, Predictor
from orgseg_node.inference.subset import organs_across
from orgseg_node.organ_table import organ_table


def open_predictor(
    bundles: Sequence[ModelBundle],
    settings: InferenceSettings,
    requested: Collection[str] | None = None,
) -> Predictor:
    """The predictor that runs these bundles; where organs of several overlap, the higher priority wins.

    Parameters
    ----------
    bundles : opened bundles
    settings : method, backend, device, threads and memory
    requested : keys of the organs that the result must have; only the networks that they need are run, and
        their labels are those of a run of all networks. None for all organs

    Raises
    ------
    BundleHashMismatch, BundleInvalid, OrganUnknown
        If a bundle is not the one that was imported, or names an organ that is not in the organ table.
    EnvironmentFault
        If the settings ask for a GPU and there is none.
    """
    organs = organ_table()
    if len(bundles) == 1:
        return load_predictor(bundles[0], organs, settings, requested)
    priorities = {key: value for bundle in bundles for key, value in bundle.manifest.priorities.items()}
    each: Sequence[frozenset[str] | None] = [None] * len(bundles)
    if requested is not None:
        found = [bundle.manifest.organs for bundle in bundles]
        each = organs_across(found, rank_organs(priorities), requested)
    predictors = [load_predictor(b, organs, settings, keys) for b, keys in zip(bundles, each, strict=True)]
    return MergedPredictor(predictors=predictors, organs=organs, priorities=priorities, requested=requested)


def load_predictor(
    bundle: ModelBundle,
    organs: OrganTable,
    settings: InferenceSettings,
    requested: Collection[str] | None = None,
) -> Predictor:
    """Make one bundle ready to run: its files are hashed again; its networks are loaded on first use.

    Parameters
    ----------
    bundle : an opened bundle
    organs : the organ table
    settings : method, backend, device, threads and memory
    requested : keys of the organs that the result must have; see `open_predictor`

    Raises
    ------
    BundleHashMismatch
        If a file is not the one that was imported.
    OrganUnknown
        If an organ of the bundle is not in the organ table.
    NotStreamable
        If the settings ask for the streaming engine and it cannot run the bundle.
    NotCalibrated
        If the settings ask for the fast or compiled mode and the bundle has no sufficient calibration of it.
    FastModeMissing, CompilerMissing
        If the settings ask for the fast or compiled mode and OpenVINO or a compiler is not installed.
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

        return StreamingPredictor(bundle, organs, settings, device, requested=requested)
    from orgseg_node.inference.backends.nnunet import NnunetPredictor  # noqa: PLC0415  # imports pandas, scikit-image

    return NnunetPredictor(bundle, organs, settings, device, requested)


def require_calibrated(bundle: ModelBundle, backend: str, device: str) -> None:
    """Raise the error that `load_predictor` would for a bundle without the calibration of a backend.

    Parameters
    ----------
    bundle : an opened bundle
    backend : ``fast`` or ``compiled``
    device : ``auto``, ``cpu`` or ``cuda``

    Raises
    ------
    NotCalibrated, FastModeMissing, CompilerMissing
        See `load_predictor`.
    EnvironmentFault
        If there is no GPU although one is asked for.
    """
    from orgseg_node.inference.backends.context import calibrated_software, choose_device  # noqa: PLC0415
    from orgseg_node.inference.bundles.calibration import require_calibration  # noqa: PLC0415  # as above

    place = choose_device(Device.CPU if backend == Backend.FAST else device)
    manifest = bundle.manifest
    require_calibration(manifest.name, manifest.calibration, *calibrated_software(backend, place))


def open_in_orientation(bundle: ModelBundle, orientation: str) -> Predictor:
    """The predictor of a verified bundle as if it was trained on this orientation; tiles do not overlap."""
    from orgseg_node.inference.backends.context import choose_device  # noqa: PLC0415  # imports torch
    from orgseg_node.inference.backends.streaming import StreamingPredictor  # noqa: PLC0415

    manifest = bundle.manifest
    changed = replace(
        manifest,
        mirroring=False,
        tile_step_size=1.0,
        preprocessing=replace(manifest.preprocessing, orientation=orientation),
    )
    device = choose_device(Device.AUTO)
    settings = InferenceSettings(guided=False)
    return StreamingPredictor(replace(bundle, manifest=changed), organ_table(), settings, device)


def preload_streaming() -> None:
    """Import the streaming engine and torch now, so that the first predictor of this process opens faster."""
    from orgseg_node.inference.backends import streaming  # noqa: F401, PLC0415  # the import is the purpose
