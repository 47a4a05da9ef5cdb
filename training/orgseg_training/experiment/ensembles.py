"""Bundles of trained networks, and their predictions as the node makes them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from orgseg_node.core.body import Body, find_body
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.errors import InputError
from orgseg_node.inference.bundles.anatomy import AnatomyCase, learn_anatomy, replace_anatomy
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.bundles.references import REFERENCE
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings, Predictor
from orgseg_training.experiment.workspace import Network, Workspace
from orgseg_training.nnunet.run import CONFIGURATION, Machine

MODELS: Final = "models"
"""Folder of the bundles that are given away; these have a reference anatomy."""
_MOST_CASES: Final = 200  # more cases change the reference little


def bundle_draft(
    workspace: Workspace, name: str, card: str = "Made for the measurements of an experiment."
) -> BundleDraft:
    """Description of a bundle of an experiment.

    Parameters
    ----------
    workspace : of the experiment
    name : of the bundle
    card : the model card, as Markdown text
    """
    experiment = workspace.experiment
    return BundleDraft(
        name=name,
        version="1.0.0",
        title=f"{experiment.name}, {name}",
        intended_use=experiment.intended_use,
        trained_on=", ".join(database.name for database in experiment.databases),
        licence=experiment.licence,
        card=card,
        preprocessing=Preprocessing(outside_to_air=True, body_margin_mm=experiment.body_margin_mm),
        mirroring=experiment.mirroring,
        tile_step_size=experiment.tile_step_size,
    )


def make_bundle(  # noqa: PLR0913  # the parts of a bundle
    workspace: Workspace,
    networks: Sequence[Network],
    folds: Sequence[int],
    draft: BundleDraft,
    *,
    ranks: Mapping[str, float] | None = None,
    folder: str = "bundles",
) -> ModelBundle:
    """Write the bundle of some folds of some networks; a bundle that is already there is opened.

    So networks are measured as the node runs them: with its own crop to the body, resampling and engine.

    Parameters
    ----------
    workspace : of the experiment
    networks : the parts of the bundle, in this order
    folds : averaged in use
    draft : description of the bundle
    ranks : Dice of each organ in the cross-validation; a voxel that two organs claim goes to the higher
    folder : folder of the workspace in which the bundle's own folder is written

    Raises
    ------
    ModelNotImportable
        If a fold is not trained yet.
    """
    target = workspace.root / folder / draft.name
    if target.is_dir():
        return _with_reference(open_bundle(target), workspace, folder)
    given = ranks or {}
    parts = [
        PartDraft(
            folder=workspace.nnunet.trained(network.dataset),
            label_map=dict(enumerate(network.organs, 1)),
            priority={organ: given[organ] for organ in network.organs if organ in given},
            folds=tuple(folds),
            configuration=CONFIGURATION,
            name=network.name.replace("_", "-"),
        )
        for network in networks
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    return _with_reference(export_trained(parts, draft, target, half_precision=True), workspace, folder)


def _with_reference(bundle: ModelBundle, workspace: Workspace, folder: str) -> ModelBundle:
    """A bundle for a node, with the reference anatomy of its training scans unless they are too few."""
    if folder != MODELS or REFERENCE in bundle.manifest.files or not workspace.splits_file.is_file():
        return bundle
    try:
        learned = learn_anatomy(
            _training_cases(workspace, bundle.manifest.organs),
            f"Training contours: {bundle.manifest.trained_on} Licence: {bundle.manifest.licence}",
            workspace.organs,
        )
    except InputError:
        return bundle
    return replace_anatomy(bundle, learned)


def _training_cases(workspace: Workspace, organs: Sequence[str]) -> Iterator[AnatomyCase]:
    """Scans of the cross-validation with the drawn organs of a bundle, at most `_MOST_CASES` of them."""
    keys = sorted(workspace.splits.development)
    step = max(1, -(-len(keys) // _MOST_CASES))
    for key in keys[::step]:
        case = workspace.store.case(key)
        masks = {organ: case.mask(organ) for organ in organs if organ in case.drawn_whole}
        if masks:
            yield AnatomyCase(volume=case.volume(), masks=masks, age_years=case.age_years)


def ensemble_name(network: Network) -> str:
    """Name of the bundle of all folds of a network."""
    return f"s{network.strategy}-{network.name.replace('_', '-')}"


class BundlePredictor:
    """Runs a bundle on scans.

    Parameters
    ----------
    workspace : of the experiment
    bundle : the networks
    machine : what they run on
    """

    def __init__(self, workspace: Workspace, bundle: ModelBundle, machine: Machine) -> None:
        settings = InferenceSettings(device=machine.device, threads=machine.threads)
        self._predictor: Predictor = load_predictor(bundle, workspace.organs, settings)

    def predict(self, volume: Volume, body: Body | None = None) -> LabelMap:
        """The organs in a CT, on its own grid."""
        return self._predictor.predict(volume, body or find_body(volume), _ignore_progress).label_map


def delete_bundle(folder: Path) -> None:
    """Delete a bundle that is no longer needed."""
    shutil.rmtree(folder, ignore_errors=True)


def _ignore_progress(_done: float, _doing: str) -> None:
    pass
