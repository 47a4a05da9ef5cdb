"""What came back as a source of training data: a folder of CT and RTSTRUCT for each case that counts.

A contour that nobody edited is the model's own. If it counted as truth, the next model would be trained and
tested on what the last one drew. So organs that came back unchanged are left out, or are taken only where a
person asks for them, and the list beside the cases says of each organ what became of it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from orgseg_node.dicom.objects.clinical_rtstruct import NOT_EDITED
from orgseg_node.dicom.objects.structure_set_facts import read_structure_set
from orgseg_node.dicom.reading.files import optional_integer, whole_text, without_pydicom_warnings
from orgseg_node.durable import atomic_folder, write_durably
from orgseg_node.node.feedback.model import Feedback, FeedbackState, OrganFeedback, OrganOutcome
from orgseg_node.node.feedback.rows import FeedbackRows
from orgseg_node.node.store.store import Store

LIST: Final = "feedback.csv"
_SEQUENCES: Final = (
    ("StructureSetROISequence", "ROINumber"),
    ("ROIContourSequence", "ReferencedROINumber"),
    ("RTROIObservationsSequence", "ReferencedROINumber"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written.

    Attributes
    ----------
    cases : folders that were written, by number of the structure set
    without_ct : numbers of those whose CT is deleted already
    nothing_edited : numbers of those in which no organ was edited or added
    unchanged : how many organs that nobody edited were left out
    """

    cases: tuple[int, ...]
    without_ct: tuple[int, ...]
    nothing_edited: tuple[int, ...]
    unchanged: int


def write_training_source(store: Store, data: Path, out: Path, *, with_unchanged: bool = False) -> Written:
    """Write the structure sets that count, each with its CT.

    Parameters
    ----------
    store : the node's database
    data : the node's data folder
    out : folder that does not exist yet, or is empty
    with_unchanged : whether organs that nobody edited are taken as well; the list says so of each
    """
    rows = FeedbackRows(store.database)
    cases, without_ct, nothing, left_out = [], [], [], 0
    listed: list[tuple[Feedback, OrganFeedback, bool]] = []
    with atomic_folder(out, 0o700) as part:
        for feedback in rows.all(states=(FeedbackState.COUNTED,)):
            organs = rows.organs(feedback.number)
            taken = {organ.roi for organ in organs if _is_taken(organ, with_unchanged=with_unchanged)}
            left_out += sum(
                organ.outcome == OrganOutcome.UNCHANGED and organ.roi not in taken for organ in organs
            )
            images = store.instances_of(store.job(feedback.job_id).series_uid)
            if not images:
                without_ct.append(feedback.number)
            elif not taken:
                nothing.append(feedback.number)
            else:
                folder = part / f"{feedback.number:06d}"
                (folder / "CT").mkdir(parents=True)
                for number, image in enumerate(images, 1):
                    (folder / "CT" / f"{number:05d}.dcm").write_bytes((data / image.path).read_bytes())
                kept = keep_rois(read_structure_set(data / feedback.path), taken)
                unchanged = {organ.roi for organ in organs if organ.outcome == OrganOutcome.UNCHANGED}
                mark_unedited(kept, unchanged)
                with without_pydicom_warnings():
                    kept.save_as(folder / "RS.dcm", enforce_file_format=False)
                cases.append(feedback.number)
                listed += [(feedback, organ, organ.roi in taken) for organ in organs]
        write_durably(part / LIST, _list_of(listed))
    return Written(
        cases=tuple(cases),
        without_ct=tuple(without_ct),
        nothing_edited=tuple(nothing),
        unchanged=left_out,
    )


def keep_rois(dataset: Dataset, names: Collection[str]) -> Dataset:
    """A structure set with only the ROIs of these names; it is changed in place."""
    with without_pydicom_warnings():
        numbers = {
            optional_integer(roi, "ROINumber")
            for roi in dataset.get("StructureSetROISequence") or ()
            if whole_text(roi, "ROIName") in names
        }
        for sequence, keyword in _SEQUENCES:
            items = dataset.get(sequence) or ()
            setattr(dataset, sequence, [item for item in items if optional_integer(item, keyword) in numbers])
    return dataset


def mark_unedited(dataset: Dataset, names: Collection[str]) -> None:
    """Let ROIs say that they have contours of a model that nobody edited, so that a site's data set knows."""
    with without_pydicom_warnings():
        for roi in dataset.get("StructureSetROISequence") or ():
            if whole_text(roi, "ROIName") in names:
                roi.ROIGenerationDescription = NOT_EDITED


def _is_taken(organ: OrganFeedback, *, with_unchanged: bool) -> bool:
    taken = {OrganOutcome.EDITED, OrganOutcome.ADDED} | (
        {OrganOutcome.UNCHANGED} if with_unchanged else set()
    )
    return organ.outcome in taken


def _list_of(listed: Iterable[tuple[Feedback, OrganFeedback, bool]]) -> bytes:
    """Of each organ what became of it, whether it is in the RTSTRUCT, and which model had drawn it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("case", "organ", "outcome", "taken", "independent", "model"))
    for feedback, organ, taken in listed:
        independent = organ.outcome in {OrganOutcome.EDITED, OrganOutcome.ADDED}
        writer.writerow(
            (f"{feedback.number:06d}", organ.organ, organ.outcome, int(taken), int(independent), organ.model)
        )
    return text.getvalue().encode()
