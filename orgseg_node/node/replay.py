"""Replay: makes a job again from what is kept, and compares the result with that of the first time.

Everything that a result depends on is kept with the job: images, protocol, models with their hashes, the time
that is written into the objects. So the same program on the same kind of machine gives the same bytes; where
it does not, the report says in which organs how many voxels differ, and what else is different.
"""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from numpy.typing import NDArray

from orgseg_node import durable
from orgseg_node.contouring.revision.found_result import FOUND
from orgseg_node.contouring.revision.kept_result import KEPT
from orgseg_node.errors import (
    JobStopped,
    ReplayFailed,
    ResultDeleted,
    ResultMissing,
    ResultUnreadable,
    WorkerDied,
)
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.processing.child_process import Message, start_child, supervise
from orgseg_node.node.processing.device_lock import hold_device
from orgseg_node.node.processing.request_building import build_request
from orgseg_node.node.processing.worker import CHILD_COMMAND
from orgseg_node.node.store.data_folder import JOBS, LOCKS
from orgseg_node.node.store.model import Job
from orgseg_node.node.store.store import Store

REPLAY: Final = "replay"
"""Folder in the data folder for what is made again; it is deleted as soon as it is compared."""

LABELS: Final = "labels.nii.gz"
# a picture for people, of which fonts differ between machines; and the labels once more
_NOT_COMPARED: Final = frozenset({"montage.png", KEPT, FOUND})
_PARTS: Final = ("models", "method", "device", "processor")
_WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganDifference:
    """An organ that is not the same in every voxel.

    Attributes
    ----------
    organ : its key
    before, after : number of voxels
    differing : voxels that are in only one of both
    """

    organ: str
    before: int
    after: int
    differing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How a result that was made again differs from the first one.

    Attributes
    ----------
    job_id : of the job
    files : name of each file that was compared, and whether its bytes are the same
    organs : those that differ; empty if every voxel is the same
    changed : what else was different, by name: version of a program, device, method, models
    """

    job_id: str
    files: Mapping[str, bool]
    organs: tuple[OrganDifference, ...]
    changed: Mapping[str, tuple[str, str]]

    @property
    def labels_equal(self) -> bool:
        """Whether every voxel is the same."""
        return not self.organs

    @property
    def is_equal(self) -> bool:
        """Whether every byte of labels and objects is the same."""
        return self.labels_equal and all(self.files.values())


def replay(
    config: NodeConfig,
    store: Store,
    job: Job,
    *,
    command: Sequence[str] = CHILD_COMMAND,
    keep: Path | None = None,
) -> Replay:
    """Make a job again and compare; nothing of it is sent, and the job stays as it is.

    Parameters
    ----------
    config : the node's configuration
    store : the node's database
    job : a job with a result
    command : program that contours
    keep : folder for the new result; it is deleted when None

    Raises
    ------
    ResultDeleted, ResultMissing, ResultUnreadable
        If there is nothing to compare with.
    ReplayFailed
        If it cannot be made again, with the reason.
    """
    data = config.node.data_dir
    before = data / JOBS / job.job_id / "out"
    if job.purged_at is not None:
        raise ResultDeleted
    if not (before / "report.json").is_file():
        raise ResultMissing(f"Job {job.job_id} is {job.state}.")
    folder = data / REPLAY / job.job_id
    shutil.rmtree(folder, ignore_errors=True)
    durable.make_folder(folder)
    try:
        _contour(config, store, job, folder, command)
        found = compare_results(job.job_id, before, folder / "out")
        if keep is not None:
            shutil.copytree(folder / "out", keep, dirs_exist_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _contour(config: NodeConfig, store: Store, job: Job, folder: Path, command: Sequence[str]) -> None:
    request = folder / "request.json"
    instances = store.instances_of(job.series_uid)
    durable.write_durably(request, build_request(config, job, instances, folder).to_json().encode())
    final: dict[str, Any] = {}

    def on_message(message: Message) -> bool:
        if message.get("event") == "progress":
            return False
        final.update(message)
        return True

    locks, device = config.node.data_dir / LOCKS, config.inference.device
    try:
        with hold_device(locks, device, lambda: time.sleep(_WAIT_S)) as lock:
            child = start_child([*command, str(request)], folder / "child.log", (lock,))
            limit_s = config.inference.time_limit_s
            supervise(child, on_message, must_stop=lambda: False, time_limit_s=limit_s)
    except (WorkerDied, JobStopped) as error:
        raise ReplayFailed(error.sentence) from error
    if final.get("event") != "done":
        raise ReplayFailed(f"{final.get('code', '')}: {final.get('sentence', 'no final message.')}")


def compare_results(job_id: str, before: Path, after: Path) -> Replay:
    """Compare two results of one job.

    Parameters
    ----------
    job_id : of the job
    before, after : folders with report.json, labels and objects

    Raises
    ------
    ResultUnreadable
        If a file is missing or damaged.
    """
    first, second = _report(before), _report(after)
    files = {
        name: second["sha256"].get(name) == digest
        for name, digest in sorted(first["sha256"].items())
        if name not in _NOT_COMPARED
    }
    organs = () if files.get(LABELS) else _organs(before, after, (first, second))
    return Replay(job_id=job_id, files=files, organs=organs, changed=_changed(first, second))


def _organs(
    before: Path, after: Path, reports: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> tuple[OrganDifference, ...]:
    labels = (_labels(before / LABELS), _labels(after / LABELS))
    if labels[0].shape != labels[1].shape:
        raise ResultUnreadable(f"The label maps have {labels[0].shape} and {labels[1].shape} voxels.")
    numbers = [{str(row["key"]): int(row["label"]) for row in report["organs"]} for report in reports]
    found = []
    for organ in sorted(numbers[0].keys() | numbers[1].keys()):
        # -1 is no label: an organ that only one of both knows
        masks = [np.equal(each, known.get(organ, -1)) for each, known in zip(labels, numbers, strict=True)]
        differing = int(np.count_nonzero(masks[0] != masks[1]))
        if differing:
            counts = [int(np.count_nonzero(mask)) for mask in masks]
            found.append(OrganDifference(organ=organ, before=counts[0], after=counts[1], differing=differing))
    return tuple(found)


def _changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What else differs: versions, device and its threads, processor, method, models."""
    pairs = {name: (first["versions"].get(name), second["versions"].get(name)) for name in first["versions"]}
    pairs |= {name: (first[name], second.get(name)) for name in _PARTS if name in first}
    return {
        name: (_words(one), _words(other)) for name, (one, other) in sorted(pairs.items()) if one != other
    }


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _report(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "report.json").read_bytes())
        for name in ("sha256", "organs", "versions"):
            found[name]  # it must be there
    except (OSError, ValueError, KeyError) as error:
        raise ResultUnreadable(f"report.json: {type(error).__name__}.") from error
    return found


def _labels(path: Path) -> NDArray[np.int16]:
    try:
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
        return np.asarray(image.dataobj, dtype=np.int16)
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise ResultUnreadable(f"{path.name}: {type(error).__name__}.") from error
