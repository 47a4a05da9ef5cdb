"""The objects that a child wrote for a job: whether they are still what was proven, and who gets them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from orgseg_node.node.config.destinations import ROLES
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.routing.decision import destinations_of
from orgseg_node.node.store.model import Job, OutputObject


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
    objects : what was written for the job
    """
    written = list(objects)
    roles = {
        name: config.destinations[name].roles if name in config.destinations else ROLES
        for name in destinations_of(config, job)
    }
    return [(item, name) for name, wanted in roles.items() for item in written if item.role in wanted]
