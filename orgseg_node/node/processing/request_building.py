"""Turns a job and the configuration into the request that its child process reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.processing.child_request import ChildRequest
from orgseg_node.node.routing.decision import destinations_of
from orgseg_node.node.store.model import Instance, Job


def build_request(config: NodeConfig, job: Job, instances: Iterable[Instance], folder: Path) -> ChildRequest:
    """The request of a job.

    Parameters
    ----------
    config : the node's configuration
    job : has what was decided when it was made, whatever the configuration says now
    instances : of its series
    folder : of the job; the results are written into ``out`` in it
    """
    data = config.node.data_dir
    return ChildRequest(
        job_id=job.job_id,
        created=job.created_at.isoformat(timespec="seconds"),
        files=tuple(str(data / instance.path) for instance in instances),
        content_sha256=job.content_sha256,
        out=str(folder / "out"),
        bundles=job.bundles,
        models=job.models,
        bundle_folders=tuple(map(str, config.bundle_paths)),
        settings=_settings(config, job),
        protocol=_protocol(config, job),
        requested_objects={
            "roles": config.roles_for(destinations_of(config, job)),
            "seg": config.contours.seg.upper(),
        },
        parent_pid=os.getpid(),
        remark=job.remark,
        scan_released=job.scan_released,
    )


def _settings(config: NodeConfig, job: Job) -> dict[str, Any]:
    """How the networks are run; a smaller memory budget changes no label."""
    settings = config.inference.settings()
    if job.memory_budget_mb is not None:
        settings["memory_budget_mb"] = job.memory_budget_mb
    return settings


def _protocol(config: NodeConfig, job: Job) -> dict[str, Any]:
    """The protocol as it was when the job was made; that of the node for a job that has none."""
    if not job.protocol_json:
        return load_protocol(config.contours.protocol).as_json
    found: dict[str, Any] = json.loads(job.protocol_json)
    return found
