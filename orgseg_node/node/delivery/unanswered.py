"""Objects that a destination received and did not answer for in time: it may have stored them.

Such an object is never sent again without asking. A destination that is also a source (same title, host and
port) is asked by C-FIND, one with storage commitment is asked to confirm it. Any other gets the object once
more, with a longer time limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pydicom
from pydicom.errors import InvalidDicomError

from orgseg_node.errors import NoAnswer, NotDicom
from orgseg_node.node.config.destinations import Destination, WebDestination
from orgseg_node.node.config.node_config import NodeConfig, Source
from orgseg_node.node.dimse.find_scu import has_object
from orgseg_node.node.store.model import Delivery, DeliveryState

LONGEST_S: Final = 1800.0
"""Longest time limit of an answer, in seconds."""

_LONGER: Final = 4.0


def unanswered_roles(deliveries: Iterable[Delivery], destination: str) -> frozenset[str]:
    """The roles of the objects that a destination did not answer for in the last attempt."""
    return frozenset(
        one.role
        for one in deliveries
        if one.destination == destination
        and one.state is DeliveryState.RETRY_WAIT
        and one.note.startswith(f"{NoAnswer.code}:")
    )


def with_longer_limit(
    destination: Destination | WebDestination, attempts: int
) -> Destination | WebDestination:
    """The destination with a time limit that grows fourfold with each attempt, up to half an hour."""
    factor = _LONGER ** min(max(attempts - 1, 1), 10)
    limit = max(destination.timeout_s, min(LONGEST_S, destination.timeout_s * factor))
    return destination.model_copy(update={"timeout_s": limit})


def source_of(config: NodeConfig, destination: Destination | WebDestination) -> Source | None:
    """The source that is the same system as a destination, and can be asked by C-FIND."""
    if not isinstance(destination, Destination):
        return None
    place = (destination.ae_title, destination.host, destination.port)
    found = (one for one in config.sources.values() if (one.ae_title, one.host, one.port) == place)
    return next(found, None)


def is_stored(source: Source, calling_ae: str, path: Path) -> bool:
    """Whether a source has an object.

    Parameters
    ----------
    source : the source that is asked
    calling_ae : AE title of the node
    path : file of the object

    Raises
    ------
    NetworkError
        If it does not answer.
    NotDicom
        If the file cannot be read.
    """
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise NotDicom(f"{path.name}.") from error
    return has_object(source, calling_ae, header)
