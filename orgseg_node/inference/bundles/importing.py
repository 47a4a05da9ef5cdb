"""Importing a model: an nnU-Net v2 folder, its export zip, several models at once, or a bundle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import (
    BundleInvalid,
    ModelContradictory,
    ModelNotImportable,
    ModelUnsupported,
    OrganUnknown,
)
from orgseg_node.inference.bundles.bundle import ModelBundle, check_weights, open_bundle, verify_bundle
from orgseg_node.inference.bundles.dataset_json import label_problem
from orgseg_node.inference.bundles.import_remarks import POSTPROCESSING, import_remarks, orientation_remarks
from orgseg_node.inference.bundles.manifest import (
    MANIFEST,
    Preprocessing,
    parse_manifest,
    render_manifest,
)
from orgseg_node.inference.bundles.matching import (
    match_labels,
    organ_of_name,
    unknown_labels,
    unused_entries,
)
from orgseg_node.inference.bundles.nnunet.archive import unpack
from orgseg_node.inference.bundles.plan_names import plan_problem
from orgseg_node.inference.bundles.totalsegmentator import (
    KEYWORD,
    ORIENTATION,
    TotalSegmentatorTask,
    is_of,
)
from orgseg_node.inference.bundles.trained import (
    CHECKPOINTS,
    TrainedModel,
    choose_models,
    find_trained,
    read_table,
    resolve_configuration,
)
from orgseg_node.inference.bundles.writing import (
    BundleDraft,
    PartDraft,
    WrittenPart,
    export_trained,
    new_bundle_folder,
)

_WANTED = {"plans.json", "dataset.json", *CHECKPOINTS}
_NOTED = {
    "checkpoint_latest.pth",
    *POSTPROCESSING,
}  # that they are there is enough
_NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """The user's options for a model to import.

    Attributes
    ----------
    name : of the bundle
    folder : folder of the bundles; the new bundle is a subfolder with its name
    table : the organ table
    organs : organ key by label name, ``data set/label`` or label number; an empty key leaves the label out;
        other labels are matched by their names
    priorities : number by organ key; where organs of two networks overlap, the higher number wins
    later_wins : where no priority is given, the organ of the later network wins
    folds : folds to average; all folds if empty
    configuration : such as ``3d_lowres``; None for ``3d_fullres``, or the only one
    outside_to_air, body_margin_mm : as the model was trained; see `Preprocessing`
    orientation : directions in which the axes of the training arrays increase, such as ``LPS``; None to take
        it from the model's files
    mirroring : average over mirrored copies; None to do as the model's trainer does
    half_precision : store the weights in float16
    trusted : Python objects in the checkpoints may be loaded, which runs their code
    known_only : labels that are no organ of the table are left out, not refused
    datasets : numbers of the data sets to take from a folder of several; empty for all
    remarks : sentences that the model card and the person must have besides
    card : model card in Markdown; None to write a short one
    """

    name: str
    folder: Path
    table: OrganTable
    organs: Mapping[str, str] = field(default_factory=dict)
    priorities: Mapping[str, float] = field(default_factory=dict)
    later_wins: bool = False
    folds: Sequence[int | str] = ()
    configuration: str | None = None
    version: str = "1"
    title: str = ""
    intended_use: str = _NOT_STATED
    trained_on: str = _NOT_STATED
    licence: str = _NOT_STATED
    outside_to_air: bool = False
    body_margin_mm: float = 0.0
    orientation: str | None = None
    mirroring: bool | None = None
    tile_step_size: float = 0.5
    half_precision: bool = False
    trusted: bool = False
    known_only: bool = False
    datasets: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    card: str | None = None


def import_model(
    source: Path, options: ImportOptions, on_remark: Callable[[str], None] = lambda _: None
) -> ModelBundle:
    """Make a bundle of a model from outside; the source is not changed.

    Parameters
    ----------
    source : an nnU-Net v2 trained-model folder, its export zip, a folder with several of them, or a bundle of
        this node, which is verified and copied; with another name its manifest, and so its hash, is another
    options : see `ImportOptions`
    on_remark : called with each sentence that a person must know; the model card has them too

    Raises
    ------
    ModelNotImportable
        If there is no such model.
    ModelUnsupported, ModelDamaged, ModelContradictory
        If the node cannot run this kind of model, a file cannot be read, or files are of several trainings.
    OrganUnknown
        If labels cannot be matched, with all of them.
    BundleExists
        If a bundle of this name exists.
    BundleInvalid
        If the options are not valid.
    DiskFull
        If the zip does not fit on the disk.
    """
    if (source / MANIFEST).is_file():
        return _copy_bundle(open_bundle(source), options.folder, options.name)
    with ExitStack() as stack:
        if source.is_file():
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orgseg-import-")))
            unpack(source, scratch, _WANTED, _NOTED)
            source = scratch
        elif not source.is_dir():
            raise ModelNotImportable(f"There is no file or folder '{source.name}'.")
        only = options.datasets
        found = find_trained(source, lambda folder: not only or is_of(folder, only), options.configuration)
        models = choose_models(found, options.configuration)
        for model in models:
            _refuse_labels(model, alone=len(models) == 1)
        if options.known_only:
            options = _without_unknown(models, options)
        parts = _parts(models, options)
        draft = _draft(models, parts, options)
        about_orientation = orientation_remarks(models, options.orientation, options.name)

        def remark(written: Sequence[WrittenPart]) -> list[str]:
            for each in written:
                _refuse_other_organs(each, options.table)
            beside = [sentence for model in models for sentence in model.beside]
            found = [*options.remarks, *beside, *about_orientation, *_remarks(written, draft)]
            for sentence in found:
                on_remark(sentence)
            return found

        return export_trained(
            parts,
            draft,
            options.folder / options.name,
            half_precision=options.half_precision,
            trusted=options.trusted,
            remark=remark,
        )


def _remarks(written: Sequence[WrittenPart], draft: BundleDraft) -> list[str]:
    mirroring = any(each.part.mirror_axes for each in written) if draft.mirroring is None else draft.mirroring
    return [
        sentence if len(written) == 1 else f"{each.model.name}: {sentence}"
        for each in written
        for sentence in import_remarks(each, draft.preprocessing.orientation, mirroring=mirroring)
    ]


def of_task(options: ImportOptions, task: TotalSegmentatorTask) -> ImportOptions:
    """The options as TotalSegmentator uses its networks; what the user stated stays.

    Parameters
    ----------
    options : the user's
    task : the task to import
    """
    licence = "of TotalSegmentator, to be asked for" if task.restricted else "Apache-2.0"
    return replace(
        options,
        datasets=task.datasets,
        folds=options.folds or (0,),
        orientation=options.orientation or ORIENTATION,
        mirroring=False,
        tile_step_size=task.tile_step_size,
        later_wins=len(task.datasets) > 1,
        title=options.title or f"TotalSegmentator, task {task.name}",
        trained_on=f"TotalSegmentator's, task {task.name}"
        if options.trained_on == _NOT_STATED
        else options.trained_on,
        licence=licence if options.licence == _NOT_STATED else options.licence,
        remarks=(*options.remarks, *task.remarks),
    )


def _copy_bundle(bundle: ModelBundle, folder: Path, name: str) -> ModelBundle:
    verify_bundle(bundle)
    manifest = (bundle.path / MANIFEST).read_bytes()
    if name != bundle.manifest.name:
        manifest = render_manifest(replace(bundle.manifest, name=name))
        parse_manifest(manifest)  # a check only: raises if the name is none
    guide = bundle.manifest.guide
    for part in (*bundle.manifest.parts, *(guide.parts if guide else ())):
        plans = read_table(bundle.path / part.plans)
        if problem := plan_problem(plans, resolve_configuration(plans, part.configuration)):
            raise BundleInvalid(problem)
    for file in bundle.manifest.files:
        if file.endswith(".safetensors"):
            check_weights(bundle.path / file)
    with new_bundle_folder(folder / name) as work:
        (work / MANIFEST).write_bytes(manifest)
        for file in bundle.manifest.files:
            (work / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / file, work / file)
    return open_bundle(folder / name)


def _priorities(matched: Mapping[int, str], number: int, options: ImportOptions) -> dict[str, float]:
    """The priorities of the organs of one of several networks.

    Parameters
    ----------
    matched : organ key by label number
    number : of the network, in the order of the networks
    options : see `ImportOptions`
    """
    usual = dict.fromkeys(matched.values(), float(number)) if options.later_wins else {}
    return usual | {key: value for key, value in options.priorities.items() if key in matched.values()}


def _parts(models: Sequence[TrainedModel], options: ImportOptions) -> list[PartDraft]:
    unused = unused_entries(options.organs, [(model.name, model.labels) for model in models])
    matches = [match_labels(model.name, model.labels, options.organs, options.table) for model in models]
    problems = [sentence for _, unmatched in matches for sentence in unmatched]
    problems += [f"{entry}, which no model has" for entry in unused]
    found = {key for matched, _ in matches for key in matched.values()}
    problems += [f"{key} of the priorities" for key in sorted(options.priorities.keys() - found)]
    if problems:
        raise OrganUnknown(f"{len(problems)} of them: " + "; ".join(problems) + ".")
    parts = [
        PartDraft(
            folder=model.folder,
            label_map=matched,
            priority=_priorities(matched, number, options),
            folds=options.folds,
            configuration=model.configuration,
        )
        for number, (model, (matched, _)) in enumerate(zip(models, matches, strict=True), start=1)
        if matched
    ]
    if not parts:
        raise ModelNotImportable("Every label was left out.")
    _refuse_twice(models, matches, options)
    return parts


def _without_unknown(models: Sequence[TrainedModel], options: ImportOptions) -> ImportOptions:
    """The options with an empty organ for each label that is no organ of the table, and a remark."""
    organs, names = dict(options.organs), []
    for model in models:
        for name in unknown_labels(model.name, model.labels, options.organs, options.table):
            organs[f"{model.name}/{name}"] = ""
            names.append(name)
    listed = f"{len(names)} labels are no organ of the table and are left out: {', '.join(names)}."
    return replace(options, organs=organs, remarks=(*options.remarks, listed)) if names else options


def _refuse_labels(model: TrainedModel, *, alone: bool) -> None:
    problem = label_problem(model.dataset)
    if problem is not None:
        raise ModelUnsupported(problem if alone else f"{model.name}: {problem}")


def _refuse_other_organs(written: WrittenPart, table: OrganTable) -> None:
    """Refuse a label that was one organ in the training and becomes another one.

    Raises
    ------
    ModelContradictory
        With all such labels.
    """
    names, organs = written.model.labels, written.part.labels
    moved = [
        f"label {number} was {old} and is {names[number]}"
        for result in written.results
        for number, old in result.renamed.items()
        if number in organs and organ_of_name(old, table) not in {None, organs[number]}
    ]
    if moved:
        raise ModelContradictory(
            f"dataset.json of '{written.model.name}' names other organs than the training: "
            f"{'; '.join(dict.fromkeys(moved))}."
        )


def _refuse_twice(
    models: Sequence[TrainedModel],
    matches: Sequence[tuple[Mapping[int, str], list[str]]],
    options: ImportOptions,
) -> None:
    holders: dict[str, list[str]] = {}
    for model, (matched, _) in zip(models, matches, strict=True):
        for key in set(matched.values()):
            holders.setdefault(key, []).append(model.name)
    twice = {
        key: names for key, names in holders.items() if len(names) > 1 and key not in options.organs.values()
    }
    if twice:
        listed = "; ".join(f"{key} in {', '.join(names)}" for key, names in sorted(twice.items()))
        raise ModelNotImportable(
            f"Organs are found by several models: {listed}. Name them in the organ map to join them"
            f"{_about_totalsegmentator(models)}."
        )


def _about_totalsegmentator(models: Sequence[TrainedModel]) -> str:
    if not any(KEYWORD in model.name.lower() for model in models):
        return ""
    return f", or import one task with 'orgseg models add {KEYWORD} FOLDER --task TASK'"


def _draft(models: Sequence[TrainedModel], parts: Sequence[PartDraft], options: ImportOptions) -> BundleDraft:
    orientations = {model.orientation for model in models}
    if options.orientation is None and len(orientations) > 1:
        raise ModelNotImportable("The models were trained on different orientations; import them one by one.")
    organs = list(dict.fromkeys(key for part in parts for key in part.label_map.values()))
    title = options.title or f"{options.name}: {len(organs)} organs"
    return BundleDraft(
        name=options.name,
        version=options.version,
        title=title,
        intended_use=options.intended_use,
        trained_on=options.trained_on,
        licence=options.licence,
        card=_card(title, organs, options) if options.card is None else options.card,
        preprocessing=Preprocessing(
            orientation=options.orientation or orientations.pop(),
            outside_to_air=options.outside_to_air,
            body_margin_mm=options.body_margin_mm,
        ),
        mirroring=options.mirroring,
        tile_step_size=options.tile_step_size,
    )


def _card(title: str, organs: Sequence[str], options: ImportOptions) -> str:
    names = "\n".join(f"* {options.table[key].name}" for key in organs)
    return (
        f"# {title}\n\nImported from a trained nnU-Net v2 model; not measured here.\n\n"
        f"* Intended use: {options.intended_use}\n* Trained on: {options.trained_on}\n"
        f"* Licence: {options.licence}\n\n## Organs\n\n{names}\n"
    )
