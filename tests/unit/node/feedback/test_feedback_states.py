"""Every structure set that comes back ends in a named state, and counts at most once."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import DiskFull, FeedbackUnmeasured, NotAStructureSet, UnknownFeedback
from orgseg_node.node.feedback.desk import FeedbackDesk
from orgseg_node.node.feedback.model import SENTENCES, FeedbackState, OrganOutcome
from orgseg_node.node.store.audit import Audit
from orgseg_node.node.store.data_folder import INBOX, JOBS
from tests.support.ct.phantom import PhantomOptions
from tests.support.node.feedback_bench import (
    FeedbackBench,
    attributes,
    contours_of,
    copied,
    deleted,
    each_roi,
    emptied,
    in_frame,
    off_slices,
    renamed,
    run_here,
    shifted,
    written,
)
from tests.support.node.odd_structure_sets import (
    ODD_SETS,
    OddSet,
    in_other_frame,
    no_reference_at_all,
    without_reference,
)

S = FeedbackState


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory, organ_table: OrganTable) -> Path:
    """The data folder of a node that has delivered."""
    folder = tmp_path_factory.mktemp("delivered")
    FeedbackBench(folder, organ_table, options=PhantomOptions(slices=14, slice_spacing_mm=5.0)).store.close()
    return folder


@pytest.fixture
def bench(delivered: Path, tmp_path: Path, organ_table: OrganTable) -> FeedbackBench:
    shutil.copytree(delivered, tmp_path, dirs_exist_ok=True)
    return FeedbackBench(tmp_path, organ_table)


def test_an_approved_set_is_measured_organ_by_organ_and_counts(bench: FeedbackBench) -> None:
    feedback, organs = bench.come_back(
        shifted("Brainstem", x_mm=8.0),
        renamed("SpinalCord", "spinal cord"),
        renamed("Parotid_L", "Parotis li"),
        deleted("Parotid_R"),
        copied("Brainstem", "Heart", "zz_help"),
    )
    assert feedback.state is S.COUNTED
    assert feedback.job_id == bench.job.job_id
    assert {roi: one.outcome for roi, one in organs.items()} == {
        "Brainstem": OrganOutcome.EDITED,
        "spinal cord": OrganOutcome.UNCHANGED,
        "Parotis li": OrganOutcome.UNCHANGED,
        "Parotid_R": OrganOutcome.DELETED,
        "Bone_Mandible": OrganOutcome.UNCHANGED,
        "Heart": OrganOutcome.ADDED,
        "zz_help": OrganOutcome.UNMATCHED,
    }
    edited = organs["Brainstem"]
    assert edited.organ == "brainstem"
    assert edited.hd95_mm == pytest.approx(8.0)
    assert edited.delivered_ml == pytest.approx(edited.approved_ml)
    assert edited.slices_edited == 1.0
    assert organs["Parotis li"].organ == "parotid_left"
    assert organs["Heart"].organ == "heart"
    assert edited.model == "threshold 1 abababab"


@pytest.mark.parametrize("odd", ODD_SETS, ids=lambda odd: odd.what)
def test_what_comes_back_ends_in_a_named_state(bench: FeedbackBench, odd: OddSet) -> None:
    feedback, _ = bench.come_back(odd.change)
    assert feedback.state is odd.state
    assert SENTENCES[odd.state]
    assert (bench.data / feedback.path).is_file(), "nothing is lost"
    assert bench.data / feedback.path != bench.data / "inbox"


def test_the_delivered_object_itself_is_never_truth(bench: FeedbackBench) -> None:
    number = bench.arrive(pydicom.dcmread(bench.rtstruct))
    bench.desk.work()
    assert bench.rows.one(number or 0).state is S.OWN


def test_the_same_set_counts_once_and_a_later_one_instead(bench: FeedbackBench) -> None:
    first = bench.returned(shifted("Brainstem", x_mm=4.0))
    assert bench.arrive(first) == 1
    assert bench.arrive(first) is None, "the same bytes again"
    again = copy.deepcopy(first)
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    assert bench.arrive(again) == 2
    later = bench.returned(shifted("Brainstem", x_mm=8.0), attributes(ReviewDate="20260302"))
    assert bench.arrive(later) == 3
    earlier = bench.returned(shifted("Brainstem", x_mm=12.0), attributes(ReviewDate="20260228"))
    assert bench.arrive(earlier) == 4
    assert bench.desk.work() == 4
    assert [one.state for one in bench.rows.all()] == [S.SUPERSEDED, S.REPEATED, S.COUNTED, S.SUPERSEDED]
    assert {one.number for one in bench.rows.counted_organs()} == {3}


def test_an_unapproved_set_is_counted_once_it_is_approved(bench: FeedbackBench) -> None:
    change = shifted("Brainstem", x_mm=4.0)
    assert bench.come_back(change, attributes(ApprovalStatus="UNAPPROVED"))[0].state is S.UNAPPROVED
    assert bench.come_back(change)[0].state is S.COUNTED


@pytest.mark.parametrize("section", [{"approved_label": "^final"}, {"unapproved": "count"}])
def test_a_site_says_what_else_counts_as_approved(
    delivered: Path, tmp_path: Path, organ_table: OrganTable, section: dict[str, str]
) -> None:
    shutil.copytree(delivered, tmp_path, dirs_exist_ok=True)
    bench = FeedbackBench(tmp_path, organ_table, feedback=section)
    unapproved = attributes(ApprovalStatus="UNAPPROVED", StructureSetLabel="final v2")
    assert bench.come_back(unapproved)[0].state is S.COUNTED


def test_a_set_that_came_before_the_delivery_is_no_edit_of_it(bench: FeedbackBench) -> None:
    number = bench.arrive(bench.returned())
    with bench.store.database.write() as tx:
        tx.run("UPDATE feedback SET received_at = '2020-01-01T00:00:00.000000+00:00'")
    bench.desk.work()
    assert bench.rows.one(number or 0).state is S.NOT_DELIVERED


def test_of_several_deliveries_it_must_say_which_it_comes_from(bench: FeedbackBench) -> None:
    with bench.store.database.write() as tx:
        tx.run("UPDATE series SET state = 'RECEIVING'")
    second = bench.deliver(protocol="another", settings=_other_settings())
    assert second.job_id != bench.job.job_id
    feedback, _ = bench.come_back()
    assert feedback.state is S.AMBIGUOUS
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    item.ReferencedSOPInstanceUID = pydicom.dcmread(bench.rtstruct).SOPInstanceUID
    named, _ = bench.come_back(attributes(PredecessorStructureSetSequence=[item]))
    assert (named.state, named.job_id) == (S.COUNTED, bench.job.job_id)
    bench.rows.again(feedback.number, "by A", job_id=second.job_id)
    bench.desk.work()
    assert bench.rows.one(feedback.number).job_id == second.job_id


def _other_settings() -> Any:
    from orgseg_node.contouring.identity import ResultSettings  # noqa: PLC0415

    return ResultSettings(method="other")


def test_a_purged_job_cannot_be_compared_and_the_set_is_kept(bench: FeedbackBench) -> None:
    with bench.store.database.write() as tx:
        tx.run("UPDATE job SET purged_at = '2026-11-29T07:00:00.000000+00:00'")
    feedback, _ = bench.come_back()
    assert feedback.state is S.PURGED
    assert (bench.data / feedback.path).is_file()


def test_one_roi_off_the_slices_costs_only_itself(bench: FeedbackBench) -> None:
    feedback, organs = bench.come_back(off_slices("Brainstem"))
    assert feedback.state is S.COUNTED
    assert organs["Brainstem"].outcome == OrganOutcome.UNUSABLE
    assert "plane of a slice" in organs["Brainstem"].note
    assert organs["SpinalCord"].outcome == OrganOutcome.UNCHANGED


def test_an_roi_of_another_frame_costs_only_itself(bench: FeedbackBench) -> None:
    def change(dataset: Dataset) -> None:
        dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = generate_uid()

    feedback, organs = bench.come_back(change)
    assert feedback.state is S.COUNTED
    assert organs["Brainstem"].outcome == OrganOutcome.UNUSABLE
    assert "frame of reference" in organs["Brainstem"].note


def test_five_hundred_rois_are_listed_and_the_organs_are_measured(bench: FeedbackBench) -> None:
    feedback, organs = bench.come_back(copied("Brainstem", *(f"help {number}" for number in range(500))))
    assert feedback.state is S.COUNTED
    assert sum(one.outcome == OrganOutcome.UNMATCHED for one in organs.values()) == 500
    assert organs["Brainstem"].outcome == OrganOutcome.UNCHANGED


def test_bad_sets_in_a_row_stop_nobody(bench: FeedbackBench) -> None:
    bad = (
        in_other_frame,
        without_reference,
        copied("Brainstem", *(f"help {number}" for number in range(500))),
        off_slices("Brainstem"),
        attributes(PatientID="somebody else"),
    )
    for change in bad:
        bench.arrive(bench.returned(change, attributes(ReviewDate="20260101")))
    bench.arrive(bench.returned(shifted("Brainstem", x_mm=8.0)))
    assert bench.desk.work() == 6
    states = [one.state for one in bench.rows.all()]
    assert states == [S.OTHER_FRAME, S.UNKNOWN_CT, S.SUPERSEDED, S.SUPERSEDED, S.OTHER_PATIENT, S.COUNTED]


def test_a_set_of_which_nothing_can_be_compared_neither_counts_nor_replaces_one_that_does(
    bench: FeedbackBench,
) -> None:
    """Deleted organs of it are no truth either."""
    good, _ = bench.come_back(shifted("Brainstem", x_mm=4.0))
    later = attributes(ReviewDate="20260401")
    odd, organs = bench.come_back(*map(deleted, ("Parotid_L", "Parotid_R")), each_roi(off_slices), later)
    assert odd.state is S.UNUSABLE
    assert {one.outcome for one in organs.values()} == {OrganOutcome.UNUSABLE, OrganOutcome.DELETED}
    assert "plane of a slice" in organs["Brainstem"].note
    assert bench.rows.one(good.number).state is S.COUNTED
    assert {one.number for one in bench.rows.counted_organs()} == {good.number}


def test_one_organ_that_can_be_compared_is_enough(bench: FeedbackBench) -> None:
    names = [str(roi.ROIName) for roi in bench.returned().StructureSetROISequence]
    feedback, organs = bench.come_back(*map(off_slices, names[:-1]))
    assert feedback.state is S.COUNTED
    assert organs.pop(names[-1]).outcome == OrganOutcome.UNCHANGED
    assert {one.outcome for one in organs.values()} == {OrganOutcome.UNUSABLE}


def test_an_organ_without_contours_is_deleted(bench: FeedbackBench) -> None:
    feedback, organs = bench.come_back(emptied("Parotid_L"))
    assert feedback.state is S.COUNTED
    assert organs["Parotid_L"].outcome == OrganOutcome.DELETED


def test_two_rois_of_the_delivered_name_are_not_taken_for_none(bench: FeedbackBench) -> None:
    """Also if only the protocol knows the name, and not the dictionary."""
    path = bench.data / JOBS / bench.job.job_id / "out" / "report.json"
    report = json.loads(path.read_bytes())
    row = next(row for row in report["organs"] if row["name"] == "Brainstem")
    row["name"] = "HS plan"
    path.write_text(json.dumps(report), encoding="utf-8")
    delivered = pydicom.dcmread(bench.rtstruct)
    renamed("Brainstem", "HS plan")(delivered)
    content = written(delivered)
    bench.rtstruct.write_bytes(content)
    with bench.store.database.write() as tx:
        tx.run("UPDATE job_object SET sha256 = ?", (hashlib.sha256(content).hexdigest(),))
    feedback, organs = bench.come_back(copied("HS plan", "hs PLAN"))
    assert feedback.state is S.COUNTED
    rows = {one.roi: one.outcome for one in bench.rows.organs(feedback.number) if one.organ == "brainstem"}
    assert rows == {"HS plan": OrganOutcome.UNUSABLE}
    assert organs["hs PLAN"].outcome == OrganOutcome.UNMATCHED


def test_a_person_names_the_job_of_a_set_that_refers_to_nothing(bench: FeedbackBench) -> None:
    frame = str(bench.series.frame_of_reference_uid)
    feedback, _ = bench.come_back(no_reference_at_all, in_frame(frame))
    assert feedback.state is S.UNKNOWN_CT
    bench.rows.again(feedback.number, "by A", job_id=bench.job.job_id)
    bench.desk.work()
    found = bench.rows.one(feedback.number)
    assert (found.state, found.job_id) == (S.COUNTED, bench.job.job_id)


def test_the_document_names_each_state_and_outcome() -> None:
    text = Path("docs/feedback.md").read_text(encoding="utf-8")
    table = text.partition("## States")[2].partition("## Measures")[0]
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", table))
    assert named == {one.value for one in (*FeedbackState, *OrganOutcome)}


def test_two_rois_for_one_organ_are_not_guessed(bench: FeedbackBench) -> None:
    twice = copied("Parotid_L", "parotis links"), renamed("Parotid_L", "Parotis li")
    feedback, organs = bench.come_back(*twice)
    assert feedback.state is S.COUNTED
    assert organs["Parotid_L"].outcome == OrganOutcome.UNUSABLE
    assert organs["Parotis li"].outcome == organs["parotis links"].outcome == OrganOutcome.UNMATCHED


def test_near_the_target_is_measured_where_a_target_is_drawn(bench: FeedbackBench) -> None:
    far, _ = bench.come_back(shifted("Brainstem", x_mm=8.0))
    assert {one.near_target_dice for one in bench.rows.organs(far.number)} == {-1.0}

    def with_target(dataset: Dataset) -> None:
        copied("Brainstem", "PTV1")(dataset)
        shifted("Brainstem", x_mm=8.0)(dataset)

    _, organs = bench.come_back(with_target, attributes(ReviewDate="20260303"))
    assert 0 <= organs["Brainstem"].near_target_dice < 1
    assert organs["Parotid_L"].near_target_dice == -1.0, "no surface of it is near the target"


def test_a_damaged_file_ends_as_unreadable_and_the_next_one_follows(bench: FeedbackBench) -> None:
    dataset = bench.returned()
    number = bench.arrive(dataset)
    path = bench.data / bench.rows.one(number or 0).path
    path.write_bytes(path.read_bytes()[:3000])
    good = bench.arrive(bench.returned())
    bench.desk.work()
    assert bench.rows.one(number or 0).state is S.UNREADABLE
    assert bench.rows.one(good or 0).state is S.COUNTED


def test_a_set_over_which_processes_die_is_given_up_and_the_next_one_follows(bench: FeedbackBench) -> None:
    def die_once(request: Any, folder: Path, **limits: Any) -> dict[str, Any]:
        if request["returned"].endswith(f"{first}.dcm"):
            raise FeedbackUnmeasured("It used more than 1 MB of memory.")
        return run_here(request, folder, **limits)

    number = bench.arrive(bench.returned())
    first = bench.rows.one(number or 0).sha256
    good = bench.arrive(bench.returned(shifted("Brainstem", x_mm=4.0)))
    desk = FeedbackDesk(bench.config, bench.store, runner=die_once)
    for _ in range(3):
        assert bench.rows.one(number or 0).state is S.RECEIVED
        desk.work()
    assert bench.rows.one(number or 0).state is S.UNREADABLE
    assert bench.rows.one(good or 0).state is S.COUNTED


def test_a_delivered_file_that_was_changed_is_not_compared(bench: FeedbackBench) -> None:
    bench.rtstruct.write_bytes(bench.rtstruct.read_bytes() + b" ")
    feedback, organs = bench.come_back()
    assert feedback.state is S.ORIGINAL_UNREADABLE
    assert "not the file that was sent" in feedback.note
    assert organs == {}


def test_without_the_files_of_the_ct_or_the_report_nothing_is_compared(bench: FeedbackBench) -> None:
    report = bench.rtstruct.parent / "report.json"
    kept = report.read_bytes()
    report.unlink()
    first, _ = bench.come_back()
    report.write_bytes(kept)
    next((bench.data / INBOX / bench.job.series_uid).iterdir()).unlink()
    second, _ = bench.come_back(shifted("Brainstem", x_mm=4.0))
    assert [one.state for one in (first, second)] == [S.ORIGINAL_UNREADABLE] * 2
    assert first.note != second.note


def test_a_full_disk_costs_no_structure_set(bench: FeedbackBench, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [bench.arrive(bench.returned(shifted("Brainstem", x_mm=mm))) or 0 for mm in (4.0, 8.0)]

    def full(*_: Any, **__: Any) -> None:
        raise DiskFull

    with monkeypatch.context() as patch:
        patch.setattr("orgseg_node.durable.write_durably", full)
        for _ in range(4):
            with pytest.raises(DiskFull):
                bench.desk.work()
    assert {bench.rows.one(number).state for number in numbers} == {S.RECEIVED}
    assert bench.desk.work() == 2
    assert [bench.rows.one(number).state for number in numbers] == [S.SUPERSEDED, S.COUNTED]


def test_a_file_that_cannot_be_read_now_is_tried_again(bench: FeedbackBench) -> None:
    answers = iter([OSError(errno.EIO, "I/O error"), None])

    def shaky(request: Any, folder: Path, **limits: Any) -> dict[str, Any]:
        if (error := next(answers, None)) is not None:
            raise error
        return run_here(request, folder, **limits)

    number = bench.arrive(bench.returned()) or 0
    desk = FeedbackDesk(bench.config, bench.store, runner=shaky)
    assert desk.work() == 0
    assert bench.rows.one(number).state is S.RECEIVED
    assert desk.work() == 1
    assert bench.rows.one(number).state is S.COUNTED


def test_the_history_has_each_step_and_is_sealed(bench: FeedbackBench) -> None:
    bench.come_back()
    audit = Audit(bench.store.database)
    audit.seal()
    audit.verify()
    events = [event for event in audit.export() if event["kind"] == "feedback"]
    assert [event["change"] for event in events] == ["-> RECEIVED", "RECEIVED -> COUNTED"]
    assert all(event["link"] for event in events)


def test_the_name_of_a_person_becomes_a_number_that_only_this_node_knows(
    bench: FeedbackBench, tmp_path: Path
) -> None:
    first, _ = bench.come_back()
    second, _ = bench.come_back(shifted("Brainstem", x_mm=4.0), attributes(ReviewerName="DOE^jane"))
    other, _ = bench.come_back(shifted("Brainstem", x_mm=8.0), attributes(ReviewerName="Roe^Rick"))
    assert first.planner == second.planner != other.planner
    assert len(first.planner) == 12
    assert (tmp_path / "feedback" / "planner.key").stat().st_mode & 0o077 == 0


def test_a_file_can_be_added_by_a_person(bench: FeedbackBench, tmp_path: Path) -> None:
    path = tmp_path / "edited.dcm"
    path.write_bytes(written(bench.returned()))
    assert bench.desk.add_file(path) == 1
    assert bench.desk.add_file(path) is None
    bench.desk.work()
    assert bench.rows.one(1).state is S.COUNTED
    with pytest.raises(NotAStructureSet):
        bench.desk.add_file(next((tmp_path / "made").iterdir()))
    with pytest.raises(UnknownFeedback):
        bench.rows.one(7)


def test_contours_moved_by_less_than_a_pixel_are_unchanged(bench: FeedbackBench) -> None:
    _, organs = bench.come_back(shifted("Brainstem", x_mm=0.9))
    assert list(contours_of(bench.returned(), "Brainstem"))
    assert organs["Brainstem"].outcome == OrganOutcome.UNCHANGED
