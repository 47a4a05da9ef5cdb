"""Contoured cases for the pages: a real CT, and an RT Structure Set that the node's own writer made of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from orgseg_node.core.contours import trace
from orgseg_node.core.organs import load_organs
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.reading.reader import read_slices
from orgseg_node.dicom.reading.series import CtSeries, choose, files_in, survey
from orgseg_node.dicom.slice_table import table_of
from orgseg_node.node.store.clock import utc_now
from orgseg_node.node.store.data_folder import JOBS, SLICES
from orgseg_node.node.store.model import (
    DeliveryState,
    Instance,
    Job,
    JobState,
    NewJob,
    OutputObject,
    SeriesState,
)
from orgseg_node.node.store.store import Store
from orgseg_node.shipped import shipped_config
from tests.support.ct.objects import PROVENANCE

LabelsOf = Callable[[CtSeries], LabelMap]
WINDOWS = ((200, 2500), (-1100, -500), (20, 60))
"""HU of three organs: bone, lung and air, soft tissue; with holes and islands."""


def contour_case(
    store: Store,
    data: Path,
    ct: Path,
    *,
    state: JobState = JobState.DONE,
    evil: str = "",
    labels_of: LabelsOf | None = None,
    recorded: bool = True,
) -> Job:
    """Accept a CT, and give its job a report and an RT Structure Set of organs by thresholds.

    Parameters
    ----------
    store : the node's database
    data : the node's data folder
    ct : folder with one series
    state : in which the job is left: DONE, delivered to ``tps``, or REVIEW
    evil : a text for the names of the ROIs and in the report
    labels_of : makes the organs; by thresholds without it
    recorded : whether the table of slices is written, as the node's child does
    """
    series = choose(survey(files_in(ct)))
    accept_ct(store, data, series, ct)
    uid = series.series_instance_uid
    new = NewJob(
        series_uid=uid, content_sha256=series.content_sha256, bundles=("threshold",),
        slices=len(series.slices), protocol="default", rule="default",
    )  # fmt: skip
    assert store.judge(store.one_series(uid), SeriesState.READY, job=new)
    written, organs = _write(data, series, (labels_of or label_map_of)(series), new.job_id, evil)
    if recorded:
        (data / JOBS / new.job_id / SLICES).write_text(table_of(series).to_json(), encoding="utf-8")
    _report(data, new.job_id, organs, evil)
    for step in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
        store.move(new.job_id, step, "")
    store.attempts.keep_objects(new.job_id, [written])
    if state is JobState.REVIEW:
        return store.move(new.job_id, JobState.REVIEW, "The rule asks for a review before anything is sent.")
    store.begin_sending(new.job_id, [(written, "tps")])
    (delivery,) = store.claim(new.job_id, "tps")
    store.record_delivery(delivery, DeliveryState.STORED, status=0, note="", next_at=utc_now())
    return store.job(new.job_id)


def label_map_of(series: CtSeries) -> LabelMap:
    """Organs by thresholds on smoothed slices, in the middle half of the rows and columns."""
    sigma = max(series.rows, series.columns) / 128
    hu = gaussian_filter(read_slices(series).astype(np.float32), (0, sigma, sigma))
    labels: NDArray[np.uint8] = np.zeros(hu.shape, dtype=np.uint8)
    rows, columns = (slice(size // 4, size - size // 4) for size in hu.shape[1:])
    for number, (low, high) in enumerate(WINDOWS, start=1):
        inside = (hu >= low) & (hu <= high)
        labels[:, rows, columns][inside[:, rows, columns]] = number
    table = load_organs(shipped_config("organs.toml"))
    organs = dict(enumerate([table[key] for key in ("mandible", "larynx", "spinal_cord")], start=1))
    return LabelMap(grid=series.geometry, labels=labels, organs=organs)


def accept_ct(store: Store, data: Path, series: CtSeries, ct: Path) -> None:
    """Copy the images of a series into the inbox of a node, and accept them.

    Parameters
    ----------
    store : the node's database
    data : the node's data folder
    series : the series
    ct : its folder
    """
    folder = data / "inbox" / series.series_instance_uid
    folder.mkdir(parents=True)
    seen = set()
    for one in series.slices:
        if one.sop_instance_uid in seen:
            continue
        seen.add(one.sop_instance_uid)
        target = folder / f"{one.sop_instance_uid}.dcm"
        shutil.copyfile(one.path, target)
        store.accept(
            Instance(
                sop_uid=one.sop_instance_uid, series_uid=series.series_instance_uid,
                sha256=hashlib.sha256(target.read_bytes()).hexdigest(), size=target.stat().st_size,
                path=str(target.relative_to(data)), transfer_syntax=one.transfer_syntax_uid,
                calling_ae=ct.name[:16].upper(), received_at=utc_now(), called_ae="ORGSEG",
            )
        )  # fmt: skip


def _write(
    data: Path, series: CtSeries, label_map: LabelMap, job_id: str, evil: str
) -> tuple[OutputObject, list[dict[str, Any]]]:
    dataset = write_rtstruct(trace(label_map), series, PROVENANCE)
    for roi in dataset.StructureSetROISequence if evil else ():
        roi.ROIName = f"{evil}{roi.ROIName}"[:64]
    path = data / "jobs" / job_id / "out" / "RTSTRUCT.dcm"
    path.parent.mkdir(parents=True)
    dataset.save_as(path, enforce_file_format=True)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    organs = [
        {
            "key": organ.key,
            "name": f"{evil}{organ.name}"[:64],
            "voxels": int((label_map.labels == label).sum()),
            "volume_ml": 1.5 * label,
            "grade": "unusual" if label == 1 else None,
            "left_out": False,
        }
        for label, organ in label_map.organs.items()
    ]  # fmt: skip
    written = OutputObject(
        role="RTSTRUCT", path=str(path.relative_to(data)), sop_uid=str(dataset.SOPInstanceUID), sha256=sha256
    )
    return written, organs


def _report(data: Path, job_id: str, organs: list[dict[str, Any]], evil: str) -> None:
    finding = {"level": "warning", "code": "ORGAN_HAS_FAR_PIECES", "message": f"It has far pieces.{evil}"}
    compared = {"reference": "72 training contours", "worst": f"position{evil}", "unusual_from": 5.0}
    content = {
        "organs": organs,
        "findings": [{**finding, "organ": organs[0]["key"]}],
        "anatomy": [{**compared, "organ": one["key"], "spreads": 2.5 * n} for n, one in enumerate(organs)],
        "models": [],
    }
    (data / "jobs" / job_id / "out" / "report.json").write_text(json.dumps(content), encoding="utf-8")
