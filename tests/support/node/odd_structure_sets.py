"""Structure sets as they come back from planning systems, each odd in its own way, and the state of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from orgseg_node.node.feedback.model import FeedbackState
from tests.support.node.feedback_bench import (
    Change,
    attributes,
    contours_of,
    copied,
    deleted,
    each_roi,
    emptied,
    in_frame,
    off_slices,
    renamed,
    shifted,
    typed,
)

_S = FeedbackState


@dataclass(frozen=True, slots=True, kw_only=True)
class OddSet:
    """A structure set that is odd.

    Attributes
    ----------
    what : is odd about it, in a few words
    change : of one that is not
    state : in which it ends
    """

    what: str
    change: Change
    state: FeedbackState


def without_reference(dataset: Dataset) -> None:
    """Let a structure set refer to another CT."""
    series = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    for one in series.RTReferencedSeriesSequence:
        one.SeriesInstanceUID = generate_uid()
        for image in one.ContourImageSequence:
            image.ReferencedSOPInstanceUID = generate_uid()
    for roi in dataset.ROIContourSequence:
        for contour in roi.get("ContourSequence") or ():
            contour.ContourImageSequence[0].ReferencedSOPInstanceUID = generate_uid()


def in_other_frame(dataset: Dataset) -> None:
    """Put everything into another frame of reference."""
    frame = generate_uid()
    dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = frame
    for roi in dataset.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = frame


def only_images(dataset: Dataset) -> None:
    """Some systems list no series; the contours refer to the images."""
    del dataset.ReferencedFrameOfReferenceSequence


def same_number(dataset: Dataset) -> None:
    """Let all ROIs have one number, so that nobody knows whose the contours are."""
    for roi in dataset.StructureSetROISequence:
        roi.ROINumber = 1
    for item in dataset.ROIContourSequence:
        item.ReferencedROINumber = 1


def damaged_numbers(dataset: Dataset) -> None:
    """Leave the last number of each contour out."""
    for item in dataset.ROIContourSequence:
        for contour in item.get("ContourSequence") or ():
            contour.ContourData = list(contour.ContourData)[:-1]


def only_unusable_and_a_target(dataset: Dataset) -> None:
    """The target is in the frame of the CT; what was delivered is not."""
    names = [str(roi.ROIName) for roi in dataset.StructureSetROISequence]
    copied("Brainstem", "PTV1")(dataset)
    in_frame(generate_uid(), *names)(dataset)


def only_a_target(dataset: Dataset) -> None:
    """All contours that were delivered are deleted, and a target is drawn."""
    names = [str(roi.ROIName) for roi in dataset.StructureSetROISequence]
    copied("Brainstem", "PTV1")(dataset)
    emptied(*names)(dataset)


def no_reference_at_all(dataset: Dataset) -> None:
    """Neither series nor images, only the frame of reference of the ROIs."""
    del dataset.ReferencedFrameOfReferenceSequence
    for item in dataset.ROIContourSequence:
        for contour in item.get("ContourSequence") or ():
            del contour.ContourImageSequence


def without_points(name: str) -> Change:
    """Leave the items of the contours of an ROI, without points."""

    def change(dataset: Dataset) -> None:
        for contour in contours_of(dataset, name):
            del contour.ContourData

    return change


def no_frame_of_rois(dataset: Dataset) -> None:
    """Neither ROIs nor the structure set state a frame of reference; the contours refer to images."""
    in_frame("")(dataset)
    del dataset.ReferencedFrameOfReferenceSequence
    dataset.FrameOfReferenceUID = ""


def one_image_for_all(dataset: Dataset) -> None:
    """Some systems let all contours refer to one image; the plane in which they lie counts."""
    every = [one for item in dataset.ROIContourSequence for one in item.get("ContourSequence") or ()]
    for contour in every:
        contour.ContourImageSequence = every[0].ContourImageSequence


def _odd(what: str, state: FeedbackState, *changes: Change) -> OddSet:
    def change(dataset: Dataset) -> None:
        for one in changes:
            one(dataset)

    return OddSet(what=what, change=change, state=state)


ODD_SETS: Final = (
    _odd("not approved", _S.UNAPPROVED, attributes(ApprovalStatus="UNAPPROVED")),
    _odd("rejected by a person", _S.UNAPPROVED, attributes(ApprovalStatus="REJECTED")),
    _odd("of a CT never received", _S.UNKNOWN_CT, without_reference),
    _odd("refers to nothing", _S.UNKNOWN_CT, no_reference_at_all),
    _odd("all ROIs in another frame", _S.OTHER_FRAME, in_other_frame),
    _odd("of another patient", _S.OTHER_PATIENT, attributes(PatientID="somebody else")),
    _odd("without Patient ID", _S.COUNTED, attributes(PatientID="")),
    _odd("lists no series, only images", _S.COUNTED, only_images),
    _odd("written by the node", _S.OWN, attributes(ApprovalStatus="UNAPPROVED", Manufacturer="orgseg_node")),
    _odd(
        "written by the node and approved",
        _S.COUNTED,
        attributes(Manufacturer="orgseg_node", ManufacturerModelName="orgseg_node"),
    ),
    _odd("no ROI", _S.EMPTY, attributes(StructureSetROISequence=[], ROIContourSequence=[])),
    _odd("ROIs without contours", _S.EMPTY, each_roi(emptied)),
    _odd("all ROIs deleted", _S.EMPTY, each_roi(deleted)),
    _odd("contours without points", _S.UNUSABLE, each_roi(without_points)),
    _odd("unknown names only", _S.NOTHING_MATCHED, each_roi(lambda name: renamed(name, f"zz {name}"))),
    _odd("organs emptied, only a target drawn", _S.NOTHING_MATCHED, only_a_target),
    _odd("all off the slices", _S.UNUSABLE, each_roi(off_slices)),
    _odd("all beyond the last slice", _S.UNUSABLE, each_roi(lambda name: shifted(name, z_mm=2000.0))),
    _odd("all beside the images", _S.UNUSABLE, each_roi(lambda name: shifted(name, x_mm=5000.0))),
    _odd("open contours only", _S.UNUSABLE, each_roi(lambda name: typed(name, "OPEN_PLANAR"))),
    _odd("points only", _S.UNUSABLE, each_roi(lambda name: typed(name, "POINT"))),
    _odd("every name twice", _S.UNUSABLE, each_roi(lambda name: copied(name, name))),
    _odd("one number for all ROIs", _S.UNUSABLE, same_number),
    _odd("a number missing in each contour", _S.UNUSABLE, damaged_numbers),
    _odd("organs in another frame, a target in this one", _S.UNUSABLE, only_unusable_and_a_target),
    _odd("all contours refer to one image", _S.COUNTED, one_image_for_all),
    _odd("some off the slices", _S.COUNTED, off_slices("Brainstem"), off_slices("SpinalCord")),
    _odd("one in another frame", _S.COUNTED, in_frame("1.2.3.4", "Brainstem")),
    _odd("no frame stated", _S.COUNTED, no_frame_of_rois),
    _odd("500 ROIs", _S.COUNTED, copied("Brainstem", *(f"help {number}" for number in range(500)))),
)
"""The state is that of one that comes alone: some have the contours of others."""
