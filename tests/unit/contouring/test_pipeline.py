"""The whole pipeline on the phantom: what it writes, proves and refuses."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from orgseg_node.contouring.objects import RequestedObjects, Result, prove_objects
from orgseg_node.contouring.pipeline import Outcome, Request, Step, run
from orgseg_node.contouring.protocol import Protocol, parse_protocol
from orgseg_node.contouring.structures import apply_protocol
from orgseg_node.core.body import Body
from orgseg_node.core.checks import Level
from orgseg_node.core.organs import OrganTable, load_organs
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.dicom.objects.rtstruct import read_rtstruct
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.errors import NothingFound, ProofFailed, StorageError
from orgseg_node.inference.predictor import (
    Disagreement,
    ModelIdentity,
    Prediction,
    Predictor,
    ProgressCallback,
)
from orgseg_node.shipped import shipped_config
from tests.support.ct.objects import PROVENANCE
from tests.support.ct.phantom import LABELS, PhantomOptions, build_ct_series, label_map_of
from tests.support.models.threshold_predictor import ThresholdPredictor

CREATED = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
FILES = {"RTSTRUCT.dcm", "SEG.dcm", "labels.nii.gz", "montage.png", "report.json"}


@pytest.fixture
def series(ct_folder: Path) -> CtSeries:
    return read_series(ct_folder)


@pytest.fixture
def predictor(organ_table: OrganTable) -> ThresholdPredictor:
    return ThresholdPredictor(organs=organ_table, also_looked_for=("larynx",))


def silent(_step: Step, part: float, text: str) -> None:
    del part, text


ORGANS = load_organs(shipped_config("organs.toml"))


def asked(series: CtSeries, out: Path) -> Request:
    return Request(series=series, out=out, job_id="job-1", created=CREATED, organs=ORGANS)


def contour(series: CtSeries, out: Path, predictor: Predictor) -> Outcome:
    return run(asked(series, out), predictor, silent)


@pytest.fixture(scope="module")
def outcome(ct: Path, organ_table: OrganTable, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the pipeline makes of `series` with `predictor`; no test changes it."""
    found = ThresholdPredictor(organs=organ_table, also_looked_for=("larynx",))
    return contour(read_series(ct), tmp_path_factory.mktemp("standard") / "out", found)


def test_it_writes_five_files_and_leaves_no_half_written_one(outcome: Outcome) -> None:
    assert {path.name for path in outcome.report_path.parent.iterdir()} == FILES
    assert not outcome.held
    assert json.loads(outcome.report_path.read_text()) == outcome.report


def test_the_label_map_on_disk_is_the_phantoms_anatomy(
    series: CtSeries, outcome: Outcome, organ_table: OrganTable
) -> None:
    image = nibabel.load(outcome.labels)
    truth = label_map_of(series.grid, organ_table)
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), truth.labels)
    assert np.allclose(image.affine, series.grid.ras_affine)
    assert int(image.header["intent_code"]) == 1002


def test_the_rtstruct_on_disk_has_the_organs_found_under_their_tg263_names(
    series: CtSeries, outcome: Outcome, organ_table: OrganTable
) -> None:
    names = set(read_rtstruct(pydicom.dcmread(outcome.rtstruct), series))
    assert names == {organ_table[key].name for key in LABELS.values()}


def test_the_report_gives_volumes_findings_versions_and_the_hash_of_every_file(
    series: CtSeries, outcome: Outcome, organ_table: OrganTable
) -> None:
    report = outcome.report
    truth = label_map_of(series.grid, organ_table).voxel_counts()
    rows = {row["key"]: row for row in report["organs"]}
    for label, key in LABELS.items():
        assert rows[key]["voxels"] == truth[label]
        assert rows[key]["volume_ml"] == pytest.approx(truth[label] * 0.048)
    assert (rows["larynx"]["voxels"], rows["larynx"]["contours"]) == (0, 0)
    assert rows["spinal_cord"]["slices"] == rows["spinal_cord"]["contours"] == 24
    found = {(finding["code"], finding["organ"]) for finding in report["findings"]}
    assert {("ORGAN_NOT_FOUND", "larynx"), ("ORGAN_AT_SCAN_END", "spinal_cord")} <= found
    assert report["worst_finding"] == "warning"
    for name, digest in report["sha256"].items():
        assert hashlib.sha256((outcome.report_path.parent / name).read_bytes()).hexdigest() == digest
    assert set(report["sha256"]) == FILES - {"report.json"}
    assert report["input"]["transfer_syntaxes"] == ["1.2.840.10008.1.2.1"]
    assert {"orgseg_node", "pydicom", "highdicom", "torch", "nnunetv2"} <= report["versions"].keys()
    assert set(report["timings_s"]["steps"]) == {step.name.lower() for step in Step} - {"save"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """A predictor whose brainstem comes from folds that differ, as two ensembles see it."""

    inner: ThresholdPredictor

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        return self.inner.models

    def predict(self, volume: Volume, body: Body, progress: ProgressCallback) -> Prediction:
        rows = [
            Disagreement(organ="brainstem", folds=folds, mean_dice=dice, volume_min_ml=1.5, volume_max_ml=2.0)
            for folds, dice in ((5, 0.98), (3, 0.87654))
        ]
        return replace(self.inner.predict(volume, body, progress), disagreement=tuple(rows))


def test_the_report_gives_the_disagreement_of_folds_and_null_for_a_single_network(
    series: CtSeries, predictor: ThresholdPredictor, tmp_path: Path
) -> None:
    report = json.loads(contour(series, tmp_path / "out", Ensemble(inner=predictor)).report_path.read_text())
    rows = {row["key"]: row["disagreement"] for row in report["organs"]}
    least = {"folds": 3, "mean_dice": 0.8765, "volume_min_ml": 1.5, "volume_max_ml": 2.0}
    assert rows.pop("brainstem") == least, "of two ensembles the one that is least sure"
    assert set(rows.values()) == {None}


def test_report_and_file_names_contain_no_patient_data(series: CtSeries, outcome: Outcome) -> None:
    text = outcome.report_path.read_text()
    for secret in ("Phantom^Ellipse", "PHANTOM-1", "19500101", series.study_instance_uid):
        assert secret not in text


def test_the_same_job_again_writes_the_same_bytes(
    series: CtSeries, predictor: ThresholdPredictor, tmp_path: Path
) -> None:
    first = contour(series, tmp_path / "one", predictor)
    second = contour(series, tmp_path / "two", predictor)
    assert first.report["sha256"] == second.report["sha256"]


def test_progress_rises_from_0_to_1_and_never_falls(
    series: CtSeries, predictor: ThresholdPredictor, tmp_path: Path
) -> None:
    calls: list[tuple[Step, float, str]] = []
    run(asked(series, tmp_path / "out"), predictor, lambda *call: calls.append(call))
    parts = [part for _, part, _ in calls]
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0.0, 1.0)
    assert [text for _, _, text in calls if ":" not in text][::2] == [step.value for step in Step]
    assert all(text.startswith(step.value) for step, _, text in calls), "the step of each call"


def test_swapped_sides_are_written_but_held(
    series: CtSeries, organ_table: OrganTable, tmp_path: Path
) -> None:
    outcome = contour(series, tmp_path / "out", ThresholdPredictor(organs=organ_table, sides_swapped=True))
    assert outcome.held
    (finding,) = [finding for finding in outcome.findings if finding.level is Level.ERROR]
    assert (finding.code, finding.organ) == ("LEFT_RIGHT_SWAPPED", "parotid_left")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A predictor whose labels are changed after the fact."""

    inner: ThresholdPredictor
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        return self.inner.models

    def predict(self, volume: Volume, body: Body, progress: ProgressCallback) -> Prediction:
        found = self.inner.predict(volume, body, progress)
        labels = self.change(found.label_map.labels)
        return replace(
            found,
            label_map=LabelMap(grid=found.label_map.grid, labels=labels, organs=found.label_map.organs),
        )


def test_when_no_organ_is_found_nothing_is_written(
    series: CtSeries, predictor: ThresholdPredictor, tmp_path: Path
) -> None:
    with pytest.raises(NothingFound):
        contour(series, tmp_path / "out", Changed(inner=predictor, change=np.zeros_like))
    assert not (tmp_path / "out").exists()


def without_one_voxel(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    fewer = labels.copy()
    fewer[tuple(np.argwhere(labels == 1)[0])] = 0
    return fewer


def test_each_object_is_proven_on_its_own_to_the_voxel(
    series: CtSeries, predictor: ThresholdPredictor, tmp_path: Path
) -> None:
    whole = contour(series, tmp_path / "whole", predictor)
    fewer = contour(series, tmp_path / "fewer", Changed(inner=predictor, change=without_one_voxel))
    labels = np.ascontiguousarray(np.asarray(nibabel.load(fewer.labels).dataobj).transpose(2, 1, 0))
    organs = {n: predictor.organs[key] for n, key in LABELS.items()}
    truth = LabelMap(grid=series.grid, labels=labels, organs=organs)
    applied = apply_protocol(Protocol(), truth, np.ones(truth.labels.shape, dtype=np.bool_), predictor.organs)
    result = Result(series=series, applied=applied, findings=(), provenance=PROVENANCE)

    def check(rtstruct: Outcome, seg: Outcome) -> None:
        made = {"RTSTRUCT": rtstruct.rtstruct.read_bytes(), "SEG": seg.seg.read_bytes()}
        prove_objects(result, RequestedObjects(), made)

    check(fewer, fewer)
    with pytest.raises(ProofFailed, match="Brainstem"):
        check(whole, fewer)
    with pytest.raises(ProofFailed, match="Brainstem"):
        check(fewer, whole)


def test_a_label_map_that_is_not_what_was_encoded_stops_the_run_and_writes_nothing(
    series: CtSeries, predictor: ThresholdPredictor, tmp_path: Path
) -> None:
    """The labels change between encoding and proof, as by a fault of memory."""
    seen: list[NDArray[np.uint8]] = []

    def remember(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen.append(labels)
        return labels

    def disturb(step: Step, _part: float, _text: str) -> None:
        if step is Step.PROVE:
            seen[0][:] = without_one_voxel(seen[0])

    changing = Changed(inner=predictor, change=remember)
    with pytest.raises(ProofFailed):
        run(asked(series, tmp_path / "out"), changing, disturb)
    assert not (tmp_path / "out").exists()


def test_an_old_rtstruct_is_removed_also_if_the_run_cannot_save(
    series: CtSeries, predictor: ThresholdPredictor, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    contour(series, out, predictor)
    (out / "SEG.dcm").unlink()
    (out / "SEG.dcm").mkdir()  # nothing can be renamed onto a folder
    with pytest.raises(StorageError):
        contour(series, out, predictor)
    assert not (out / "RTSTRUCT.dcm").exists()
    assert not list(out.glob("*.part")) + list(out.glob(".*.part"))


def test_a_folder_that_cannot_be_made_is_a_storage_error(
    series: CtSeries, predictor: ThresholdPredictor, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        contour(series, tmp_path / "file" / "out", predictor)


def test_the_montage_is_an_image_of_sufficient_size(outcome: Outcome) -> None:
    content = outcome.montage.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 20_000


def test_every_requested_object_is_written_proven_and_reported(
    series: CtSeries, predictor: ThresholdPredictor, tmp_path: Path
) -> None:
    roles = ("RTSTRUCT", "SEG", "SR", "PDF", "RTSTRUCT:eclipse", "RTSTRUCT:monaco")
    request = replace(asked(series, tmp_path / "out"), requested=RequestedObjects(roles=roles))
    outcome = run(request, predictor, silent)
    assert set(outcome.objects) == set(roles)
    uids = {role: str(pydicom.dcmread(path).SOPInstanceUID) for role, path in outcome.objects.items()}
    assert len(set(uids.values())) == len(roles)
    for path in outcome.objects.values():
        assert outcome.report["sha256"][path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    seg, rtstruct = pydicom.dcmread(outcome.seg), pydicom.dcmread(outcome.rtstruct)
    assert seg.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == uids["RTSTRUCT"]
    assert rtstruct.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == uids["SEG"]
    again = run(asked(series, tmp_path / "out"), predictor, silent)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES, "objects no longer asked for go"
    assert again.seg.read_bytes() == outcome.seg.read_bytes()


def test_a_protocol_names_tidies_and_derives(
    series: CtSeries, predictor: ThresholdPredictor, tmp_path: Path
) -> None:
    protocol = parse_protocol(
        {
            "profile": "eclipse",
            "structures": [
                {"organ": "mandible", "name": "Kiefer", "color": [1, 2, 3]},
                {"organ": "spinal_cord", "keep_components": 1},
                {"name": "Cord_PRV05", "derive": "margin", "from": ["spinal_cord"], "margin_mm": 5},
            ],
            "external": {"name": "BODY"},
            "others": "drop",
        },
        "test",
    )
    request = replace(
        asked(series, tmp_path / "out"),
        protocol=protocol,
        requested=RequestedObjects(profile=protocol.profile),
    )
    outcome = run(request, predictor, silent)
    dataset = pydicom.dcmread(outcome.rtstruct)
    names = [str(roi.ROIName) for roi in dataset.StructureSetROISequence]
    assert names == ["Kiefer", "SpinalCord", "Cord_PRV05", "BODY"]
    segments = [str(one.SegmentLabel) for one in pydicom.dcmread(outcome.seg).SegmentSequence]
    assert sorted(segments) == ["Kiefer", "SpinalCord"]
    done = {row["structure"]: row for row in outcome.report["protocol"]["done"]}
    assert done["derived cord_prv05"]["made"] == "SpinalCord + 5 mm"
    assert outcome.report["protocol"]["sha256"] == protocol.sha256


@pytest.mark.parametrize(
    "options",
    [
        PhantomOptions(shear=math.tan(math.radians(15))),
        PhantomOptions(positions_mm=[*np.arange(-36.0, 0, 3), *np.arange(0.0, 40, 6)]),
        PhantomOptions(pixel_spacing_mm=(3.0, 4.0)),
    ],
    ids=["tilt", "uneven", "oblong"],
)
def test_an_irregular_series_is_contoured_on_its_own_slices(
    tmp_path: Path, predictor: ThresholdPredictor, options: PhantomOptions
) -> None:
    build_ct_series(tmp_path / "ct", options)
    series = read_series(tmp_path / "ct")
    outcome = contour(series, tmp_path / "out", predictor)
    seg = pydicom.dcmread(outcome.seg)
    for frame in seg.PerFrameFunctionalGroupsSequence:
        place = [float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient]
        assert any(np.allclose(place, one.position_mm, atol=0.01) for one in series.slices)
    cord = next(row for row in outcome.report["organs"] if row["key"] == "spinal_cord")
    assert cord["slices"] == len(series.slices)
