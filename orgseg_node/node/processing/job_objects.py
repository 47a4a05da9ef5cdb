"""The objects of a job: whether they are still what was proven, and who gets them, with its CT or without."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from orgseg_node.contouring.object_roles import CT, IMAGE, RTSTRUCT, written_instead
from orgseg_node.errors import StorageError
from orgseg_node.node.config.destinations import ROLES
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.routing.decision import destinations_of
from orgseg_node.node.store.model import Job, OutputObject
from orgseg_node.node.store.store import Store


def stored_objects(data_dir: Path, reported: Iterable[Mapping[str, str]]) -> list[OutputObject]:
    """What a child reported, with paths relative to the data folder, as the store keeps them."""
    return [
        OutputObject(**{**item, "path": str(Path(item["path"]).relative_to(data_dir))}) for item in reported
    ]


def first_changed(data_dir: Path, objects: Iterable[OutputObject]) -> OutputObject | None:
    """The first object whose file is not the one that was written. Raises OSError if one cannot be read."""
    return next((item for item in objects if _sha256(data_dir / item.path) != item.sha256), None)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pairs_to_send(
    config: NodeConfig, job: Job, objects: Iterable[OutputObject]
) -> list[tuple[OutputObject, str]]:
    """Each object with each destination that gets it, in the order of the destinations.

    A destination that is no longer configured is paired with every object: each then fails visibly.

    Parameters
    ----------
    config : the node's configuration
    job : whose destinations get the objects
    objects : what was written for the job, and the images of its CT that go with it
    """
    roles = {
        name: config.destinations[name].roles if name in config.destinations else ROLES
        for name in destinations_of(config, job)
    }
    return pairs_of(objects, roles)


def pairs_of(
    objects: Iterable[OutputObject], roles: Mapping[str, Sequence[str]]
) -> list[tuple[OutputObject, str]]:
    """Each object with each destination that gets it.

    Parameters
    ----------
    objects : what was written for a job, and the images of its CT
    roles : names of destinations, with the roles of the objects that each gets
    """
    items = list(objects)
    by_role = {item.role: item for item in items}
    pairs = []
    for name, wanted in roles.items():
        own = [by_role.get(role) or by_role.get(written_instead(role)) for role in wanted]
        images = [item for item in items if item.role.startswith(IMAGE)] if CT in wanted else []
        pairs += [(item, name) for item in (*images, *own) if item is not None]
    return pairs


def planning_ct(
    store: Store, data_dir: Path, job: Job, objects: Iterable[OutputObject]
) -> list[OutputObject]:
    """The images of the CT to which the RT Structure Set of a job refers, as objects that can be sent.

    Parameters
    ----------
    store : the node's database
    data_dir : the node's data folder
    job : the job
    objects : what was written for the job

    Raises
    ------
    StorageError
        If the RT Structure Set cannot be read, or an image to which it refers is not here any more.
    """
    path = next((data_dir / item.path for item in objects if item.role == RTSTRUCT), None)
    try:
        referenced = set() if path is None else _referenced_images(path)
    except (InvalidDicomError, OSError, EOFError, AttributeError) as error:
        raise StorageError("The RT Structure Set of the job cannot be read.") from error
    here = {one.sop_uid: one for one in store.instances_of(job.series_uid)}
    if not referenced <= here.keys():
        raise StorageError(f"{len(referenced - here.keys())} images of the CT are not here any more.")
    images = (here[uid] for uid in sorted(referenced))
    return [OutputObject(role=f"{IMAGE}{one.sop_uid}", path=one.path, sop_uid=one.sop_uid) for one in images]


def _referenced_images(path: Path) -> set[str]:
    dataset = pydicom.dcmread(path, specific_tags=["ReferencedFrameOfReferenceSequence"])
    return {
        str(image.ReferencedSOPInstanceUID)
        for frame in dataset.ReferencedFrameOfReferenceSequence
        for study in frame.RTReferencedStudySequence
        for series in study.RTReferencedSeriesSequence
        for image in series.ContourImageSequence
    }
