"""A structure set that came back for a case of the pages, with one organ moved on some slices."""

from __future__ import annotations

import hashlib

import numpy as np
import pydicom

from orgseg_node.node.feedback.rows import Arrived, FeedbackRows
from orgseg_node.node.store.model import Job
from tests.support.web.pages_bench import PagesBench

MOVED_MM = 6.0


def return_contours(
    bench: PagesBench, job: Job, *, organ: str, state: str = "COUNTED"
) -> tuple[int, set[str]]:
    """Let the delivered structure set come back.

    Parameters
    ----------
    bench : its store gets the rows
    job : whose structure set comes back
    organ : key of the first ROI; its first, third and every second contour is moved along x
    state : of the structure set

    Returns
    -------
    its number, and the SOP Instance UIDs of the images whose contours were moved
    """
    (written,) = bench.store.attempts.objects(job.job_id)
    dataset = pydicom.dcmread(bench.jobs.data / written.path)
    roi = dataset.ROIContourSequence[0]
    images = sorted({_image(one) for one in roi.ContourSequence})[::2]
    for contour in roi.ContourSequence:
        if _image(contour) in images:
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            points[:, 0] += MOVED_MM
            contour.ContourData = [f"{value:.3f}" for value in points.ravel()]
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.4711"
    path = bench.jobs.data / "feedback" / "back.dcm"
    path.parent.mkdir(exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    rows = FeedbackRows(bench.store.database)
    number = rows.register(
        Arrived(sop_uid="2.25.4711", sha256=sha256, path="feedback/back.dcm", sender="TPS")
    )
    assert number is not None
    names = {int(one.ROINumber): str(one.ROIName) for one in dataset.StructureSetROISequence}
    with bench.store.database.write() as tx:
        tx.run(
            "UPDATE feedback SET state = ?, job_id = ?, role = 'RTSTRUCT' WHERE number = ?",
            (state, job.job_id, number),
        )
        tx.run(
            "INSERT INTO feedback_organ (number, position, roi, organ, outcome, model, dice, hd95_mm,"
            " slices_edited) VALUES (?, 1, ?, ?, 'EDITED', 'hn 1', 0.8, 6.0, 0.5)",
            (number, names[int(roi.ReferencedROINumber)], organ),
        )
    return number, set(images)


def _image(contour: pydicom.Dataset) -> str:
    return str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
