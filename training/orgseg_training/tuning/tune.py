"""Fine-tuning from stored scans to a bundle: every step can be interrupted and repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import BundleExists
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.training_cases import add_training_cases
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.durable import lock_folder, read_json, write_json
from orgseg_training.errors import NothingLearned
from orgseg_training.evaluation.results import CaseScore, read_cases, write_cases
from orgseg_training.nnunet.child import Watch
from orgseg_training.nnunet.progress import ProgressReader
from orgseg_training.nnunet.run import PLANS, Machine, Schedule, run_code, train
from orgseg_training.tuning.bundles import add_reference, trained_cases, write_bundle, write_fold_bundle
from orgseg_training.tuning.folds import Fold, given_fold, make_folds, validation_scans
from orgseg_training.tuning.prepare import RawData, RawWriter
from orgseg_training.tuning.report import TuneSummary, card_of, write_report
from orgseg_training.tuning.request import TuneFolder, TuneRequest
from orgseg_training.tuning.scores import NEW, OLD, BundleScorer, organ_rows, score_scans
from orgseg_training.tuning.start import start_plans
from orgseg_training.tuning.trainer_settings import trainer_settings

LOW_DICE: Final = 0.1
"""An organ with a lower mean Dice in the validation scans counts as not learned."""


class Listener(Protocol):
    """Is called when a fine-tuning makes progress."""

    def stage(self, text: str, total: int) -> None:
        """A stage begins, with so many parts; 0 if they are not known."""

    def done(self, number: int) -> None:
        """So many parts of the stage are done."""

    def event(self, event: Mapping[str, Any]) -> None:
        """The training process reports something; see `nnunet.progress`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The result of a fine-tuning.

    Attributes
    ----------
    bundle : for the node
    summary : what was trained on what, and how good it is
    """

    bundle: ModelBundle
    summary: TuneSummary


def tune(  # noqa: PLR0913  # what is asked, of which scans, on which machine, and where to
    request: TuneRequest,
    cases: Sequence[StoredCase],
    table: OrganTable,
    machine: Machine,
    *,
    folder: TuneFolder,
    target: Path,
    listener: Listener,
) -> Tuned:
    """Train networks from those of a bundle on a site's contours, and write a bundle of them.

    A fine-tuning that was interrupted continues where it was.

    Parameters
    ----------
    request : what is asked
    cases : scans for training and validation; none that is locked for the test
    table : the organ table
    machine : what it runs on
    folder : of this fine-tuning
    target : folder of the bundle
    listener : is called when it makes progress

    Raises
    ------
    TooFewDrawn
        If an organ is drawn in too few scans.
    TuningExists
        If the folder is of another fine-tuning.
    BundleExists
        If the bundle is there already.
    TrainingNotFinite, TrainingKilled, TrainerFailed, OutOfMemory, DiskFull
        If training fails; it can be repeated and continues.
    NothingLearned
        If an organ is hardly found and that was not accepted; the report is written, the bundle is not.
    """
    if target.exists():
        raise BundleExists(f"'{target.name}' exists.")
    tuned = set(request.start.tuned)
    known = [case for case in cases if tuned & (case.drawn | case.outside)]
    usable = sorted(known, key=lambda case: case.key)
    _folds(request, usable)  # refuses before anything is written
    with lock_folder(folder.root):
        folder.require_same(request.document(usable))
        raw = _write_raw(request, usable, table, machine, folder, listener)
        usable = [case for case in usable if case.key not in raw.left_out]
        folds = _folds(request, usable)
        _preprocess(request, folds, folder, machine, listener)
        for number in range(request.folds):
            scans = validation_scans(
                usable, request.start.tuned, folds[number], request.recipe.validation_cases
            )
            settings = trainer_settings(request, raw, usable, folder, number, scans, folds[number]["val"])
            _train_fold(request, settings, folder, machine, number, listener)
        scores = _score(request, usable, folds, table, machine, folder, listener)
        summary = TuneSummary(
            site=request.site,
            name=request.name,
            start=request.start.bundle.manifest.name,
            rows=organ_rows(scores, request.start.organs),
            tuned=request.start.tuned,
            new=request.start.new,
            kept=request.start.kept,
            other=tuple(
                key for _, labels in request.start.parts_left(request.stay) for key in labels.values()
            ),
            scans=len(usable),
            drawn={organ: sum(organ in case.drawn for case in usable) for organ in request.start.tuned},
            folds=folds,
            left_out=raw.left_out,
        )
        bundle = _finish(request, summary, usable, table, folder, target)
    return Tuned(bundle=bundle, summary=summary)


def _folds(request: TuneRequest, cases: Sequence[StoredCase]) -> tuple[Fold, ...]:
    if request.validation:
        return (given_fold(cases, request.start.tuned, request.validation),) * request.folds
    return make_folds(cases, request.start.tuned, request.folds, request.seed)


def _write_raw(  # noqa: PLR0913, PLR0917  # the arguments of tune
    request: TuneRequest,
    cases: Sequence[StoredCase],
    table: OrganTable,
    machine: Machine,
    folder: TuneFolder,
    listener: Listener,
) -> RawData:
    listener.stage("scans prepared", len(cases))
    place = folder.nnunet.raw / folder.dataset.folder
    return RawWriter(request.start, table, machine, place).write(cases, listener.done)


def _preprocess(
    request: TuneRequest, folds: Sequence[Fold], folder: TuneFolder, machine: Machine, listener: Listener
) -> None:
    raw = folder.nnunet.raw / folder.dataset.folder
    place = folder.nnunet.preprocessed / folder.dataset.folder
    write_json(place / f"{PLANS}.json", start_plans(request.start, folder.dataset))
    write_json(place / "dataset.json", read_json(raw / "dataset.json"))
    write_json(place / "dataset_fingerprint.json", {})  # nnU-Net copies it; the plans are the old network's
    write_json(place / "splits_final.json", [dict(fold) for fold in folds])
    listener.stage("scans resampled", sum(len(keys) for keys in folds[0].values()))
    run_code(
        folder.nnunet,
        folder.dataset,
        f"""
from pathlib import Path
from orgseg_training.nnunet.preprocess_cases import preprocess_cases
preprocess_cases(Path({str(raw)!r}), Path({str(place)!r}), Path({str(folder.progress)!r}))
""",
        threads=machine.threads,
        watch=_watch(folder, listener),
    )


def _train_fold(  # noqa: PLR0913, PLR0917  # the arguments of tune
    request: TuneRequest,
    settings: Mapping[str, Any],
    folder: TuneFolder,
    machine: Machine,
    fold: int,
    listener: Listener,
) -> None:
    recipe = request.recipe
    schedule = Schedule(
        learning_rate=recipe.learning_rate,
        epochs=recipe.blocks,
        iterations_per_epoch=recipe.steps_per_block,
        seed=10_000 * request.seed + 1_000 * fold,
    )
    listener.stage(f"network {fold + 1} of {request.folds}: steps", recipe.steps)
    watch = _watch(folder, listener)
    train(folder.nnunet, folder.dataset, schedule, machine, fold, settings, watch)


def _watch(folder: TuneFolder, listener: Listener) -> Watch:
    reader = ProgressReader(folder.progress)

    def forward() -> None:
        for event in reader.events():
            if event["event"] in {"step", "preprocessed"}:
                listener.done(int(event["done"]))
            listener.event(event)

    return Watch(log=folder.log, on_wait=forward)


def _score(  # noqa: PLR0913, PLR0917  # the arguments of tune
    request: TuneRequest,
    cases: Sequence[StoredCase],
    folds: Sequence[Fold],
    table: OrganTable,
    machine: Machine,
    folder: TuneFolder,
    listener: Listener,
) -> tuple[CaseScore, ...]:
    """Old and new bundle on the validation scans, each by the network, or networks, not trained on it."""
    if folder.scores.is_file():
        return read_cases(folder.scores)
    by_key = {case.key: case for case in cases}
    together = [range(request.folds)] if request.validation else [[number] for number in range(len(folds))]
    validation = [[by_key[key] for key in folds[numbers[0]]["val"]] for numbers in together]
    listener.stage("validation scans contoured", 2 * sum(len(part) for part in validation))
    count = _Count(listener.done)
    organs = request.start.organs
    scores: list[CaseScore] = []
    for numbers, part in zip(together, validation, strict=True):
        bundles = {NEW: write_fold_bundle(request, folder, numbers), OLD: request.start.bundle}
        scorers = {
            model: BundleScorer(bundle, model, organs, table, machine) for model, bundle in bundles.items()
        }
        scores += score_scans(scorers, part, folder.scan_scores(numbers[0]), count.one_more)
    write_cases(scores, folder.scores)
    return tuple(scores)


class _Count:
    def __init__(self, on_count: Callable[[int], None]) -> None:
        self._on_count = on_count
        self._number = 0

    def one_more(self) -> None:
        self._number += 1
        self._on_count(self._number)


def _finish(  # noqa: PLR0913, PLR0917  # the arguments of tune
    request: TuneRequest,
    summary: TuneSummary,
    cases: Sequence[StoredCase],
    table: OrganTable,
    folder: TuneFolder,
    target: Path,
) -> ModelBundle:
    rows = [row for row in summary.rows if row.organ in request.start.tuned]
    low = [row.organ for row in rows if (row.new or 0) < LOW_DICE]
    write_report(summary, folder.report, low)
    if low and not request.accept_low:
        found = ", ".join(f"{row.organ} {row.new or 0:.2f}" for row in rows if row.organ in low)
        raise NothingLearned(f"Mean Dice in the validation scans: {found}. Report: {folder.report}.")
    priorities = {row.organ: row.new for row in rows if row.new is not None}
    work = target.with_name(f".{target.name}.new")  # complete, with its reference, or not there
    if work.is_dir():
        bundle = open_bundle(work)
    else:
        bundle = write_bundle(request, folder, work, card=card_of(summary, low), priorities=priorities)
    bundle, has_reference = add_reference(bundle, request.start.bundle, cases, table)
    add_training_cases(bundle, trained_cases(request, bundle, cases, summary.folds))
    work.rename(target)
    bundle = open_bundle(target)
    write_json(
        folder.result,
        {
            "bundle": {"name": request.name, "sha256": bundle.sha256, "folder": str(target)},
            "start": {
                "name": request.start.bundle.manifest.name,
                "sha256": request.start.bundle.sha256,
            },
            "folds": [
                {
                    "number": number,
                    "bundle": str(folder.fold_bundle(number)),
                    "training": list(fold["train"]),
                    "validation": list(fold["val"]),
                }
                for number, fold in enumerate(summary.folds[:1] if request.validation else summary.folds)
            ],
            "organs": [asdict(row) for row in summary.rows],
            "tuned": list(summary.tuned),
            "new": list(summary.new),
            "kept": list(summary.kept),
            "reference": has_reference,
            "low": low,
        },
    )
    return bundle
