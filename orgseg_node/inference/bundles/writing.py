"""Writing a model bundle, imported or newly trained.

All files are written to a hidden folder beside the target, which is renamed at the end: a bundle is complete
or does not exist.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from orgseg_node.durable import atomic_file, atomic_folder, write_durably
from orgseg_node.errors import (
    BundleExists,
    BundleInvalid,
    ModelContradictory,
    ModelNotImportable,
    NotDurable,
    StorageError,
)
from orgseg_node.inference.bundles.bundle import ModelBundle, file_sha256, open_bundle
from orgseg_node.inference.bundles.calibration import Calibration
from orgseg_node.inference.bundles.conversion import Conversion, ConversionResult, convert_checkpoints
from orgseg_node.inference.bundles.dataset_json import needed_keys
from orgseg_node.inference.bundles.manifest import (
    MANIFEST,
    Manifest,
    Part,
    Preprocessing,
    parse_manifest,
    render_manifest,
    text_problems,
)
from orgseg_node.inference.bundles.trained import TrainedModel, choose_folds, open_trained, refuse_unusable

_CARD = "card.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDraft:
    """One trained nnU-Net folder to write as a part of a bundle.

    Attributes
    ----------
    folder : nnU-Net's ``<trainer>__<plans>__<configuration>`` folder
    label_map : organ key of each label number; other labels are left out
    priority : number by organ key; where organs of several parts overlap, the higher number wins
    folds : folds to average; all folds if empty
    configuration : such as ``3d_fullres``; None to take it from the folder
    name : name of the part's folder in the bundle; None for the name of the data set
    """

    folder: Path
    label_map: Mapping[int, str]
    priority: Mapping[str, float] = field(default_factory=dict)
    folds: Sequence[int | str] = ()
    configuration: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedPart:
    """A part of another bundle, copied as it is.

    Attributes
    ----------
    bundle, part : the part and its bundle
    labels : organ key of each label number that it still contours
    """

    bundle: ModelBundle
    part: Part
    labels: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleDraft:
    """The description of a new bundle; see `Manifest`.

    Attributes
    ----------
    card : the model card, as Markdown text
    mirroring : average over mirrored copies in use; None to do as the trainer does
    """

    name: str
    version: str
    title: str
    intended_use: str
    trained_on: str
    licence: str
    card: str
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    mirroring: bool | None = None
    tile_step_size: float = 0.5


def export_trained(  # noqa: PLR0913  # the parts of a bundle
    parts: Sequence[PartDraft],
    draft: BundleDraft,
    target: Path,
    *,
    copied: Sequence[CopiedPart] = (),
    half_precision: bool = True,
    trusted: bool = True,
    remark: Callable[[Sequence[WrittenPart]], Sequence[str]] = lambda _: (),
) -> ModelBundle:
    """Make a bundle of trained nnU-Net folders.

    Parameters
    ----------
    parts : the networks, in the order in which their organs are numbered
    draft : description of the bundle
    target : folder of the bundle, which must not exist
    copied : parts of other bundles with the same preprocessing, after the networks
    half_precision : store the weights in float16; they are run in float32
    trusted : the checkpoints were made here; pickled Python objects in them may be loaded
    remark : what the model card must say of the networks, as sentences, once they are known

    Raises
    ------
    BundleExists
        If the target exists.
    ModelNotImportable
        If a folder is incomplete, the node cannot run this kind of model, or its weights do not fit its
        plans.
    BundleInvalid
        If the draft is incomplete.
    """
    if not parts and not copied:
        raise ModelNotImportable("No part was given.")
    texts = ("name", "version", "title", "intended_use", "trained_on", "licence", "card")
    problems = text_problems({name: getattr(draft, name) for name in texts})
    if problems:
        raise BundleInvalid("; ".join(problems) + ".")
    with new_bundle_folder(target) as work:
        (work / _CARD).write_text(draft.card, encoding="utf-8")
        planned: list[_PreparedPart] = []
        for part in parts:
            planned.append(_prepare_part(part, work, {p.folder for p in planned}))
        jobs = [
            Conversion(
                checkpoint=checkpoint,
                plans=work / part.folder / "plans.json",
                dataset=work / part.folder / "dataset.json",
                weights=work / part.folder / f"fold_{fold}.safetensors",
                configuration=part.configuration,
                half_precision=half_precision,
                trusted=trusted,
            )
            for part in planned
            for fold, checkpoint in part.checkpoints.items()
        ]
        results = iter(convert_checkpoints(jobs))
        networks = [_part(part, [next(results) for _ in part.checkpoints]) for part in planned]
        written = [network.part for network in networks]
        for given in copied:
            written.append(_copied_part(given, work, {part.folder for part in written}))
        if remarks := remark(networks):
            listed = "".join(f"* {sentence}\n" for sentence in remarks)
            (work / _CARD).write_text(f"{draft.card.rstrip()}\n\n## At import\n\n{listed}", encoding="utf-8")
        _write_manifest(work, draft, written)
    return open_bundle(target)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PreparedPart:
    """A part whose folder and descriptions are written, but not yet its weights."""

    draft: PartDraft
    folder: str
    model: TrainedModel
    configuration: str | None
    checkpoints: Mapping[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPart:
    """A part whose weights are written.

    Attributes
    ----------
    part : as the manifest describes it
    model : where it comes from
    checkpoints : of each fold
    results : of the conversion of each fold
    """

    part: Part
    model: TrainedModel
    checkpoints: Mapping[str, Path]
    results: tuple[ConversionResult, ...]


def _prepare_part(draft: PartDraft, work: Path, taken: set[str]) -> _PreparedPart:
    model = open_trained(draft.folder)
    configuration = draft.configuration or model.configuration
    unknown = sorted(set(draft.label_map) - set(model.labels))
    if unknown:
        raise ModelNotImportable(f"'{model.name}' has no label {', '.join(map(str, unknown))}.")
    if configuration is not None:
        refuse_unusable(model.plans, model.dataset, configuration)
    folder = _unused_folder(draft.name or model.name, taken)
    (work / folder).mkdir(parents=True)
    _copy_descriptions(model, work / folder)
    return _PreparedPart(
        draft=draft,
        folder=folder,
        model=model,
        configuration=configuration,
        checkpoints=choose_folds(model, draft.folds),
    )


def _part(planned: _PreparedPart, folds: Sequence[ConversionResult]) -> WrittenPart:
    if len({(fold.configuration, fold.mirror_axes) for fold in folds}) > 1:
        raise ModelContradictory(
            f"The folds of '{planned.model.name}' are of different configurations, or mirror other axes."
        )
    part = Part(
        folder=planned.folder,
        configuration=folds[0].configuration,
        trainer=folds[0].trainer,
        folds=tuple(planned.checkpoints),
        mirror_axes=folds[0].mirror_axes,
        labels=dict(sorted(planned.draft.label_map.items())),
        priorities=dict(planned.draft.priority),
    )
    return WrittenPart(part=part, model=planned.model, checkpoints=planned.checkpoints, results=tuple(folds))


def _copied_part(given: CopiedPart, work: Path, taken: set[str]) -> Part:
    folder = _unused_folder(given.part.folder.rsplit("/", maxsplit=1)[-1], taken)
    copy = replace(
        given.part,
        folder=folder,
        labels=dict(sorted(given.labels.items())),
        priorities={key: n for key, n in given.part.priorities.items() if key in given.labels.values()},
    )
    (work / folder).mkdir(parents=True)
    old = (given.part.plans, given.part.dataset, *given.part.weights)
    for source, target in zip(old, (copy.plans, copy.dataset, *copy.weights), strict=True):
        shutil.copyfile(given.bundle.path / source, work / target)
    return copy


def _copy_descriptions(model: TrainedModel, place: Path) -> None:
    (place / "dataset.json").write_text(json.dumps(needed_keys(model.dataset), indent=2), encoding="utf-8")
    (place / "plans.json").write_text(json.dumps(model.plans, indent=2), encoding="utf-8")


def _write_manifest(work: Path, draft: BundleDraft, parts: Sequence[Part]) -> None:
    mirroring = any(part.mirror_axes for part in parts) if draft.mirroring is None else draft.mirroring
    files = {p.relative_to(work).as_posix(): file_sha256(p) for p in sorted(work.rglob("*")) if p.is_file()}
    manifest = Manifest(
        name=draft.name,
        version=draft.version,
        title=draft.title,
        intended_use=draft.intended_use,
        trained_on=draft.trained_on,
        licence=draft.licence,
        card=_CARD,
        preprocessing=draft.preprocessing,
        mirroring=mirroring,
        tile_step_size=draft.tile_step_size,
        parts=tuple(parts),
        files=files,
    )
    content = render_manifest(manifest)
    parse_manifest(content)  # a check only: raises if the new manifest cannot be parsed
    (work / MANIFEST).write_bytes(content)


def replace_calibration(bundle: ModelBundle, calibration: Calibration) -> ModelBundle:
    """Write a calibration of the fast mode into the manifest of a bundle, in one step.

    Returns
    -------
    the changed bundle, which has another hash

    Raises
    ------
    StorageError
        If the folder of the bundle cannot be written.
    """
    return replace_manifest(bundle, replace(bundle.manifest, calibration=calibration))


def replace_manifest(bundle: ModelBundle, manifest: Manifest) -> ModelBundle:
    """Write another manifest for the same files, in one step; see `replace_calibration`."""
    content = render_manifest(manifest)
    parse_manifest(content)  # a check only: raises if the new manifest cannot be parsed
    place = bundle.path / MANIFEST
    try:
        with atomic_file(place) as new:
            new.write_bytes(content)
            new.chmod(place.stat().st_mode & 0o777)
    except StorageError as error:
        raise StorageError(_unwritable(bundle, error.detail)) from error
    return open_bundle(bundle.path)


def replace_orientation(bundle: ModelBundle, orientation: str, remark: str) -> ModelBundle:
    """Write the orientation of the training into a bundle, and into its card how it was found.

    Parameters
    ----------
    bundle : to change; if it is interrupted, `verify_bundle` reports it
    orientation : such as ``RAS``
    remark : one sentence

    Returns
    -------
    the changed bundle, which has another hash

    Raises
    ------
    DiskFull, StorageError
        If the folder of the bundle cannot be written.
    """
    manifest, card = bundle.manifest, bundle.path / bundle.manifest.card
    text = f"{bundle.card.rstrip()}\n\n## Orientation\n\n{remark}\n"
    write_durably(card, text.encode(), mode=0o644)
    content = render_manifest(
        replace(
            manifest,
            preprocessing=replace(manifest.preprocessing, orientation=orientation),
            files={**manifest.files, manifest.card: file_sha256(card)},
        )
    )
    parse_manifest(content)  # a check only: raises if the new manifest cannot be parsed
    write_durably(bundle.path / MANIFEST, content, mode=0o644)
    return open_bundle(bundle.path)


def require_writable(bundle: ModelBundle) -> None:
    """Refuse a bundle whose manifest could not be replaced, before a long measurement.

    Raises
    ------
    StorageError
        If the folder of the bundle cannot be written.
    """
    try:
        with tempfile.TemporaryFile(dir=bundle.path):
            pass
    except OSError as error:
        raise StorageError(_unwritable(bundle, f"{error.strerror}.")) from error


def _unwritable(bundle: ModelBundle, reason: str) -> str:
    return f"The {MANIFEST} of '{bundle.manifest.name}' cannot be written: {reason}"


@contextmanager
def new_bundle_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which is renamed to the target at the end and removed if anything fails.

    Raises
    ------
    BundleExists
        If the target exists, before or afterwards.
    DiskFull, NotDurable
        If it cannot be written.
    """
    if target.exists():
        raise BundleExists(f"'{target.name}' exists.")
    try:
        with atomic_folder(target, 0o755) as work:
            yield work
            work.chmod(0o755)  # whatever the umask: every account on the machine may use a bundle
    except NotDurable:
        if target.exists():
            raise BundleExists(f"'{target.name}' exists.") from None
        raise


def _unused_folder(name: str, taken: set[str]) -> str:
    clean = (
        "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name).strip(".") or "part"
    )
    for number in range(1, 1000):
        folder = f"parts/{clean}" if number == 1 else f"parts/{clean}_{number}"
        if folder not in taken:
            return folder
    raise BundleInvalid(f"More than 999 parts are called {clean}.")
