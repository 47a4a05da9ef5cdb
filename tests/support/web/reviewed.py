"""A job in REVIEW as a node leaves it: contoured by the pipeline, with all its files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom

from orgseg_node import durable
from orgseg_node.contouring.objects import RequestedObjects
from orgseg_node.contouring.pipeline import Request, run
from orgseg_node.contouring.protocol import parse_protocol
from orgseg_node.dicom.reading.series import choose, files_in, survey
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.processing.job_objects import stored_objects
from orgseg_node.node.processing.request_building import build_request
from orgseg_node.node.store.model import Job, JobState, NewJob, SeriesState
from orgseg_node.node.store.store import Store
from orgseg_node.organ_table import organ_table
from tests.support.models.threshold_predictor import ThresholdPredictor
from tests.support.web.contoured import accept_ct


def review_case(store: Store, config: NodeConfig, ct: Path) -> Job:
    """Accept a phantom, contour it and hold its job for a review.

    Parameters
    ----------
    store : the node's database
    config : of the node
    ct : folder with one series
    """
    data = config.node.data_dir
    series = choose(survey(files_in(ct)))
    accept_ct(store, data, series, ct)
    uid = series.series_instance_uid
    new = NewJob(
        series_uid=uid,
        content_sha256=series.content_sha256,
        bundles=("threshold",),
        slices=len(series.slices),
    )
    assert store.judge(store.one_series(uid), SeriesState.READY, job=new)
    job = store.job(new.job_id)
    folder = data / "jobs" / job.job_id
    request = build_request(config, job, store.instances_of(uid), folder)
    folder.mkdir(parents=True)
    durable.write_durably(folder / "request.json", request.to_json().encode())
    outcome = run(
        Request(
            series=series, out=Path(request.out), job_id=job.job_id, created=job.created_at,
            organs=organ_table(), protocol=parse_protocol(request.protocol, "test"), keep=True,
            requested=RequestedObjects(roles=tuple(request.requested_objects["roles"])),
        ),
        ThresholdPredictor(organs=organ_table()),
        lambda *_: None,
    )  # fmt: skip
    reported = [
        {
            "role": role,
            "path": str(path),
            "sop_uid": str(pydicom.dcmread(path).SOPInstanceUID),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for role, path in outcome.objects.items()
    ]
    store.attempts.keep_objects(job.job_id, stored_objects(data, reported))
    for step in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
        store.move(job.job_id, step, "")
    return store.move(job.job_id, JobState.REVIEW, "A rule asks for a review.", reason="REVIEW_BY_RULE")
