"""Running a bundle on the scans of a site as the node does, with a cache that survives an interruption.

The steps and their order are those of `orgseg_node.contouring.pipeline`: body, check of the scan, networks,
protocol with the judgement of the organs. An organ that the node would leave out as implausible counts as
missed, because it is not delivered.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orgseg_node.contouring.anatomy_check import AnatomyRules, FoundBy, organ_judge
from orgseg_node.contouring.protocol import Protocol, load_protocol
from orgseg_node.contouring.scan_check import ScanRules, check_scan, predict_part
from orgseg_node.contouring.structures import apply_protocol
from orgseg_node.core.body import Body
from orgseg_node.core.checks import Grade
from orgseg_node.core.metrics import compare
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Volume
from orgseg_node.durable import make_folder, write_durably
from orgseg_node.errors import BodyNotFound, InputError, NothingFound, ScanDoubtful, StorageError
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.references import read_reference
from orgseg_node.inference.predictor import InferenceSettings, Predictor
from orgseg_training.curation.measurements import content_hash
from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.durable import encode_json, read_json
from orgseg_training.evaluation.delivery import NODE_PROTOCOL, LastScan, tidying_of
from orgseg_training.evaluation.scoring import Tolerances
from orgseg_training.gate.run_key import run_key
from orgseg_training.gate.scans import OrganResult, result_from_json, result_to_json

Labels = NDArray[np.uint8]
OpenPredictor = Callable[[ModelBundle, InferenceSettings], Predictor]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What one model found in one scan.

    Attributes
    ----------
    organs : result of each organ that the model has and that was looked for
    refused : why the scan was not contoured; empty if it was
    size_cm : effective diameter of the patient; NaN if there is no body
    slice_mm : distance of the slices
    """

    organs: Mapping[str, OrganResult]
    refused: str = ""
    size_cm: float = math.nan
    slice_mm: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs bundles on scans of a site.

    Attributes
    ----------
    folder : of the cache
    organs : the organ table
    settings : how the networks are run
    tolerances : of the surface Dice
    protocol : of the node; its tidying is applied before the organs are compared
    open_networks : opens a bundle; see `orgseg_node.inference.loading.load_predictor`
    """

    folder: Path
    organs: OrganTable
    settings: InferenceSettings
    open_networks: OpenPredictor
    tolerances: Tolerances = field(default_factory=Tolerances)
    protocol: Protocol = field(default_factory=lambda: load_protocol(NODE_PROTOCOL))
    last_scan: LastScan = field(default_factory=LastScan, init=False, compare=False, repr=False)

    def of_bundle(self, bundle: ModelBundle) -> BundleRun:
        """The runs of one bundle, or of some folds of it; its networks are loaded at the first scan."""
        return BundleRun(self, bundle)


class BundleRun:
    """The runs of one bundle.

    Parameters
    ----------
    runner : settings and cache
    bundle : whose manifest may name fewer folds than its folder has
    """

    def __init__(self, runner: Runner, bundle: ModelBundle) -> None:
        self._runner = runner
        self._bundle = bundle
        self._predictor: Predictor | None = None
        self._protocol = tidying_of(runner.protocol)
        key = run_key(bundle, runner.settings, self._protocol, runner.organs, runner.tolerances)
        self._folder = runner.folder / f"{bundle.sha256[:12]}-{key[:12]}"

    def is_cached(self, case: StoredCase) -> bool:
        """Whether a scan is in the cache. Raises StorageError."""
        return self._read(case) is not None

    def contour(self, case: StoredCase) -> RunResult:
        """The result of a scan, from the cache if it is there.

        Raises
        ------
        StorageError
            If the scan or the cache cannot be read or written.
        BundleError
            If the networks cannot be run.
        """
        known = self._read(case)
        if known is not None:
            return known
        result, labels = self._run(case)
        make_folder(self._folder)
        if labels is not None:
            packed = io.BytesIO()
            np.savez_compressed(packed, labels=labels)
            write_durably(self._labels_file(case), packed.getvalue())
        document = {
            "case": content_hash(case),
            "refused": result.refused,
            "size_cm": _plain(result.size_cm),
            "slice_mm": _plain(result.slice_mm),
            "organs": {key: result_to_json(organ) for key, organ in result.organs.items()},
        }
        write_durably(self._file(case), encode_json(document))
        return result

    def labels(self, case: StoredCase) -> tuple[Labels, dict[str, int]]:
        """The delivered label map of a scan that was contoured, and the number of each organ.

        Raises
        ------
        StorageError
            If it is not in the cache.
        """
        try:
            with np.load(self._labels_file(case), allow_pickle=False) as packed:
                labels: Labels = packed["labels"]
        except (OSError, ValueError, KeyError) as error:
            raise StorageError(f"The contours of {case.key} are not in the cache.") from error
        return labels, {key: n for n, key in enumerate(self._bundle.manifest.organs, 1)}

    def _file(self, case: StoredCase) -> Path:
        return self._folder / f"{case.key}.json"

    def _labels_file(self, case: StoredCase) -> Path:
        return self._folder / f"{case.key}.npz"

    def _read(self, case: StoredCase) -> RunResult | None:
        """The result in the cache; None if it is not there, or of other contours, or damaged."""
        try:
            document: Mapping[str, Any] = read_json(self._file(case))
            if document["case"] != content_hash(case):
                return None
            organs = {key: result_from_json(row) for key, row in document["organs"].items()}
            return RunResult(
                organs=organs,
                refused=str(document["refused"]),
                size_cm=_number(document["size_cm"]),
                slice_mm=_number(document["slice_mm"]),
            )
        except (StorageError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def _run(self, case: StoredCase) -> tuple[RunResult, Labels | None]:
        scan = self._runner.last_scan
        volume = scan.volume(case)
        slice_mm = float(volume.grid.spacing_mm[0])
        known = [organ for organ in self._bundle.manifest.organs if _is_looked_for(case, organ)]
        try:
            body = scan.body(case)
        except BodyNotFound as error:
            return RunResult(organs={}, refused=error.code, slice_mm=slice_mm), None
        size_cm = _diameter_cm(body, volume)
        try:
            labels, grades, left_out = self._deliver(volume, body, case.age_years)
        except (ScanDoubtful, NothingFound, InputError) as error:
            refused = RunResult(organs={}, refused=error.code, size_cm=size_cm, slice_mm=slice_mm)
            return refused, None
        numbers = {key: n for n, key in enumerate(self._bundle.manifest.organs, 1)}
        results = {}
        for organ in known:
            found = np.equal(labels, numbers[organ])
            drawn = case.state(organ) is OrganState.DRAWN
            reference = case.mask(organ) if drawn else np.zeros(labels.shape, dtype=np.bool_)
            # beyond the slices in which it was drawn nothing is known: there is nothing to compare
            slices = slice(*case.known_slices.get(organ, (0, labels.shape[0])))
            comparison = compare(
                reference[slices],
                found[slices],
                volume.grid.spacing_mm,
                self._runner.tolerances.of(organ),
            )
            implausible = organ in left_out or grades.get(organ) is Grade.IMPLAUSIBLE
            results[organ] = OrganResult(comparison=comparison, implausible=implausible)
        return RunResult(organs=results, size_cm=size_cm, slice_mm=slice_mm), labels

    def _deliver(
        self, volume: Volume, body: Body, age_years: float | None
    ) -> tuple[Labels, Mapping[str, Grade], set[str]]:
        """What the node would deliver: labels in the order of the manifest, grades, what is left out."""
        predictor, runner = self._networks(), self._runner
        reference, sha256 = read_reference(self._bundle), self._bundle.sha256
        rules = ScanRules(references={} if reference.scan is None else {sha256: reference.scan})
        decision = check_scan(volume, body, predictor.models, rules)
        prediction = predict_part(predictor, decision, (volume, body), _no_progress)
        judge = organ_judge(
            AnatomyRules(references={} if reference.anatomy is None else {sha256: reference.anatomy}),
            (volume, body),
            FoundBy.of(prediction),
            age_years,
        )
        applied = apply_protocol(self._protocol, prediction.label_map, body.mask, runner.organs, judge)
        labels = np.zeros(volume.grid.shape, dtype=np.uint8)
        numbers = {key: n for n, key in enumerate(self._bundle.manifest.organs, 1)}
        for label, organ in applied.label_map.organs.items():
            labels[np.equal(applied.label_map.labels, label)] = numbers[organ.key]
        return labels, applied.judgement.grades, {organ.key for organ in applied.left_out}

    def _networks(self) -> Predictor:
        if self._predictor is None:
            self._predictor = self._runner.open_networks(self._bundle, self._runner.settings)
        return self._predictor


def with_folds(bundle: ModelBundle, folds: Mapping[str, str]) -> ModelBundle:
    """The same bundle, with one fold of some parts only.

    Parameters
    ----------
    bundle : with all folds
    folds : the fold to use, by the folder of the part
    """
    parts = tuple(
        replace(part, folds=(folds[part.folder],)) if part.folder in folds else part
        for part in bundle.manifest.parts
    )
    return replace(bundle, manifest=replace(bundle.manifest, parts=parts))


def _is_looked_for(case: StoredCase, organ: str) -> bool:
    return case.state(organ) is not OrganState.NOT_DRAWN


def _diameter_cm(body: Body, volume: Volume) -> float:
    """Diameter of the circle with the median area of the patient over the slices; as AAPM report 220."""
    areas = body.mask.sum(axis=(1, 2), dtype=np.int64)
    _, row_mm, column_mm = volume.grid.spacing_mm
    median = float(np.median(areas[areas > 0])) if areas.any() else math.nan
    return 2.0 * math.sqrt(median * row_mm * column_mm / math.pi) / 10.0


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _no_progress(_done: float, _doing: str) -> None:
    pass
