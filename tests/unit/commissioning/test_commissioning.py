"""Patients with clinical contours through the node's own path: what is compared, what is not, and why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from orgseg_node.commissioning.cases import case_name, find_cases, locked_scans
from orgseg_node.commissioning.page import render_html
from orgseg_node.commissioning.results import ScanResult
from orgseg_node.commissioning.session import Session, Settings, report_content, write_report
from orgseg_node.contouring.pipeline import Request, run
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.core.metrics import Status
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.errors import OptionInvalid, OutOfMemory
from orgseg_node.inference import loading
from orgseg_node.inference.predictor import Predictor
from orgseg_training.datasets.rtstruct.archive import short_hash
from orgseg_training.site.lock import Lock, write_lock
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.models.threshold_predictor import ThresholdPredictor
from tests.support.node.command_line import orgseg
from tests.support.node.feedback_bench import attributes, copied, deleted, off_slices, renamed, shifted
from tests.support.processes.once import once

NOW = datetime(2026, 11, 29, tzinfo=UTC)
Change = Callable[[pydicom.Dataset], object]


class Hospital:
    """A folder with patients, and a commissioning."""

    def __init__(self, root: Path, organs: OrganTable) -> None:
        self.root, self.organs = root, organs
        self.cases, self.out = root / "cases", root / "out"
        self.loaded = 0

    def patient(self, name: str, *changes: Change, files: str = "RS.dcm") -> str:
        """A patient with a CT and the contours of a person; the name of the scan."""
        folder = self.cases / name
        contoured = once(f"commissioning-{name}", lambda made: self._contoured(made, name))
        shutil.copytree(contoured / "CT", folder / "CT")
        made = self.root / "made" / name / "RTSTRUCT.dcm"
        made.parent.mkdir(parents=True)
        shutil.copy(contoured / "RTSTRUCT.dcm", made)
        self.structures(folder / files, made, *changes)
        first = next((folder / "CT").iterdir())
        return case_name(pydicom.dcmread(first, stop_before_pixels=True).SeriesInstanceUID)

    def _contoured(self, folder: Path, name: str) -> Path:
        """The CT of a patient, and what the node makes of it; the same for all tests."""
        options = PhantomOptions(
            slices=12, study=name, series=name, frame=name,
            attributes={"PatientID": f"ID {name}", "PatientName": f"Doe^{name}"},
        )  # fmt: skip
        build_ct_series(folder / "CT", options)
        request = Request(
            series=read_series(folder / "CT"), out=folder / "out", job_id="j", created=NOW, organs=self.organs
        )
        run(request, self.predictor, lambda *_: None).rtstruct.rename(folder / "RTSTRUCT.dcm")
        return folder

    @staticmethod
    def structures(path: Path, made: Path, *changes: Change) -> None:
        """What a person drew: the node's contours, changed."""
        dataset = pydicom.dcmread(made)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.Manufacturer, dataset.ManufacturerModelName = "TPS Inc.", "Planner"
        dataset.ApprovalStatus, dataset.ReviewDate = "APPROVED", "20260301"
        for change in changes:
            change(dataset)
        dataset.save_as(path, enforce_file_format=True)

    @property
    def predictor(self) -> Predictor:
        return ThresholdPredictor(organs=self.organs)

    def session(self, predictor: Predictor | None = None) -> Session:
        def load() -> Predictor:
            self.loaded += 1
            return predictor or self.predictor

        return Session(self.out, self.settings, load)

    @property
    def settings(self) -> Settings:
        return Settings(
            organs=self.organs, protocol=Protocol(), protocol_name="default", models=self.predictor.models,
            method="whole",
        )  # fmt: skip

    def run(self, predictor: Predictor | None = None) -> tuple[dict[str, ScanResult], dict[str, str]]:
        found, _ = find_cases(self.cases)
        return self.session(predictor).run(found, lambda *_: None, lambda _f, _t: None)


@pytest.fixture
def hospital(tmp_path: Path, organ_table: OrganTable) -> Hospital:
    return Hospital(tmp_path, organ_table)


def dice(result: ScanResult) -> Mapping[str, float]:
    return {key: round(one.comparison.dsc, 3) for key, one in result.organs.items()}


def test_what_is_delivered_is_compared_with_what_was_drawn(hospital: Hospital) -> None:
    name = hospital.patient(
        "A",
        shifted("Brainstem", x_mm=8.0),
        renamed("Parotid_L", "Parotis li"),
        deleted("Parotid_R"),
        copied("Brainstem", "Heart", "zz_help"),
    )
    results, failed = hospital.run()
    assert failed == {}
    organs = results[name].organs
    assert organs.keys() == {"brainstem", "spinal_cord", "parotid_left", "mandible"}, (
        "what was drawn, no more"
    )
    assert organs["brainstem"].comparison.hd95_mm == pytest.approx(8.0)
    assert {dice(results[name])[key] for key in ("spinal_cord", "parotid_left", "mandible")} == {1.0}
    assert results[name].not_used == {
        "Heart": "heart is no organ of the models",
        "zz_help": "its name means no organ for certain",
    }


def test_a_missed_organ_counts_with_no_overlap(hospital: Hospital) -> None:
    name = hospital.patient("A", copied("Brainstem", "Heart"))
    results, _ = hospital.run(ThresholdPredictor(organs=hospital.organs, also_looked_for=("heart",)))
    heart = results[name].organs["heart"].comparison
    assert (heart.status, heart.dsc) == (Status.PRED_EMPTY, 0.0)


@pytest.mark.endurance
def test_one_bad_patient_never_stops_the_others(hospital: Hospital) -> None:
    good = hospital.patient("A")
    frame = hospital.patient("B", _in_other_frame)
    (hospital.cases / "C").mkdir()
    (hospital.cases / "C" / "notes.txt").write_text("nothing")
    (hospital.cases / "D").mkdir()
    hospital.patient("E", attributes(PatientID="somebody else"))
    hospital.patient("F", attributes(ApprovalStatus="REJECTED"))
    hospital.patient("G", attributes(ApprovalStatus="UNAPPROVED", Manufacturer="orgseg_node"))
    off = hospital.patient("H", off_slices("Brainstem"))
    (hospital.cases / "I").mkdir()
    (hospital.cases / "I" / "broken.dcm").write_bytes((hospital.cases / "A" / "RS.dcm").read_bytes()[:2000])
    found, unusable = find_cases(hospital.cases)
    assert [one.name for one in found] == sorted([good, frame, off])
    why = {one.folder.name: one.why for one in unusable}
    assert "neither a CT nor a structure set" in why["C"]
    assert "neither a CT nor a structure set" in why["D"]
    assert "another patient" in why["E"]
    assert "rejected by a person" in why["F"]
    assert "nobody approved" in why["G"]
    assert why["I"]
    results, failed = hospital.run()
    assert failed == {}
    assert results[good].organs["brainstem"].comparison.dsc == 1.0
    assert results[frame].organs == {}
    assert "frame of reference" in results[frame].not_used["Brainstem"]
    assert "brainstem" not in results[off].organs
    assert "plane of a slice" in results[off].not_used["Brainstem"]
    assert results[off].organs["mandible"].comparison.dsc == 1.0
    content = report_content(hospital.settings, found, (results, failed), unusable, NOW)
    assert content["scans"]["measured"] == 2, "a scan of which nothing was compared is not measured"
    assert content["scans"]["nothing_compared"] == [frame]
    assert any("frame of reference" in row["why"] for row in content["not_used"])
    assert "no clinical ROI could be compared" in render_html(content).decode()


def _in_other_frame(dataset: pydicom.Dataset) -> None:
    uid = generate_uid()
    dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = uid
    for roi in dataset.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = uid


def test_of_several_structure_sets_the_approved_and_then_the_newest_counts(hospital: Hospital) -> None:
    hospital.patient("A", attributes(ReviewDate="20260101"))
    made = hospital.root / "made" / "A" / "RTSTRUCT.dcm"
    newest = attributes(ReviewDate="20260401")
    hospital.structures(hospital.cases / "A" / "2.dcm", made, newest, attributes(ApprovalStatus="UNAPPROVED"))
    hospital.structures(hospital.cases / "A" / "3.dcm", made, attributes(ReviewDate="20260201"))
    (case,), _ = find_cases(hospital.cases)
    assert case.structures.name == "3.dcm"
    moved = shifted("Brainstem", x_mm=8.0)
    hospital.structures(hospital.cases / "A" / "4.dcm", made, attributes(ReviewDate="20260201"), moved)
    found, (unusable, *_) = find_cases(hospital.cases)
    assert found == []
    assert "neither approval nor date" in unusable.why


class _Dies:
    """A predictor that fails as a machine without memory does."""

    models = ()

    def __init__(self, predictor: Predictor, *, times: int) -> None:
        self._predictor, self._times = predictor, times
        self.models = predictor.models

    def predict(self, *arguments: object) -> object:
        if self._times:
            self._times -= 1
            raise OutOfMemory
        return self._predictor.predict(*arguments)  # type: ignore[arg-type]


def test_what_is_finished_is_kept_and_what_failed_is_tried_again(hospital: Hospital) -> None:
    names = {hospital.patient("A"), hospital.patient("B")}
    results, failed = hospital.run(_Dies(hospital.predictor, times=1))  # type: ignore[arg-type]
    assert len(results) == len(failed) == 1
    assert next(iter(failed.values())).startswith("INFERENCE_OUT_OF_MEMORY")
    again, failed = hospital.run()
    assert (again.keys(), failed) == (names, {})
    assert hospital.loaded == 2
    once_more, _ = hospital.run()
    assert hospital.loaded == 2, "nothing is left, so no network is loaded"
    assert [one.as_json for one in once_more.values()] == [one.as_json for one in again.values()]
    hospital.structures(
        hospital.cases / "A" / "RS.dcm", hospital.root / "made" / "A" / "RTSTRUCT.dcm",
        shifted("Brainstem", x_mm=8.0),
    )  # fmt: skip
    changed, _ = hospital.run()
    assert hospital.loaded == 3, "other contours are compared anew"
    assert sum(one.organs["brainstem"].comparison.dsc < 1 for one in changed.values()) == 1


def test_a_scan_in_which_the_program_died_twice_is_left_out(hospital: Hospital) -> None:
    name = hospital.patient("A")
    session = hospital.session()
    (case,), _ = find_cases(hospital.cases)
    attempts = hospital.out / "scans" / name / "attempts"
    attempts.parent.mkdir(parents=True)
    attempts.write_text(f"{session._key(case)} 2")
    _, failed = hospital.run()
    assert "ended 2 times" in failed[name]
    attempts.write_text("another-key 2")
    assert hospital.run()[1] == {}


@pytest.mark.endurance
def test_the_report_names_no_patient_and_is_written_three_times(hospital: Hospital) -> None:
    names = [hospital.patient("A"), hospital.patient("B", shifted("Brainstem", x_mm=8.0))]
    hospital.patient("E", attributes(PatientID="somebody else"))
    found, unusable = find_cases(hospital.cases)
    done = hospital.session().run(found, lambda *_: None, lambda _f, _t: None)
    content = report_content(hospital.settings, found, done, unusable, NOW)
    paths = {path.name: path for path in write_report(hospital.out, content, found, unusable)}
    assert json.loads(paths["commissioning.json"].read_bytes())["scans"]["measured"] == 2
    page = paths["commissioning.html"].read_text(encoding="utf-8")
    assert paths["commissioning.pdf"].read_bytes().startswith(b"%PDF")
    (row,) = [one for one in content["organs"] if one["organ"] == "brainstem"]
    assert (row["patients"], row["measures"]["dsc"]["low"]) == (2, None)
    assert row["measures"]["dsc"]["worst_scan"] == names[1]
    assert row["observers"]["hd95_mm"] == 4.0
    for text in (page, paths["commissioning.json"].read_text(encoding="utf-8")):
        assert "another patient" in text
        assert names[1] in text
        assert "Doe" not in text
        assert "ID A" not in text
    assert str(hospital.cases / "A") in paths["cases.csv"].read_text(encoding="utf-8")
    assert paths["cases.csv"].stat().st_mode & 0o077 == 0


def test_the_command_reports_and_goes_on(
    hospital: Hospital, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "open_predictor", lambda *_: hospital.predictor)
    (hospital.cases / "empty").mkdir(parents=True)
    words = ("commission", "site", "--cases", hospital.cases, "--out", hospital.out, "--bundle", "starter-hn")
    nothing = orgseg(capsys, *words)
    assert nothing.status == 1
    assert "not used: empty: It has neither a CT nor a structure set." in nothing.err
    name = hospital.patient("A", shifted("Brainstem", x_mm=8.0))
    done = orgseg(capsys, *words)
    assert done.status == 0
    assert "1 scans of 1 patients were compared." in done.out
    assert "brainstem" in done.out
    assert f"{name}: compared" in done.err
    assert (hospital.out / "commissioning.html").is_file()
    answer = orgseg(capsys, *words, "--json")
    content = json.loads(answer.out)
    assert (content["scans"]["measured"], content["models"][0]["name"]) == (1, "starter-hn")


def test_only_the_test_scans_of_a_site_are_named_by_its_lock(tmp_path: Path) -> None:
    key = f"site__{short_hash('1.2.3')}"
    lock = make_lock({key: "a", "site__x": "b"}, tmp_path)
    assert locked_scans(lock) == {case_name("1.2.3")}
    other = tmp_path / "other.json"
    for text in ("{}", "[]", "no json", '{"test": 3}'):
        other.write_text(text)
        with pytest.raises(OptionInvalid, match="no lock"):
            locked_scans(other)


def make_lock(cases: Mapping[str, str], folder: Path) -> Path:
    """A lock as the training package writes it, with the first case for the test."""
    (test, first), *training = cases.items()
    path = folder / "lock.json"
    write_lock(
        Lock(training=dict(training), test={test: first}, patients=dict.fromkeys(cases, "p"), number=1), path
    )
    return path
