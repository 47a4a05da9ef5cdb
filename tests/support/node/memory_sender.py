"""A sender without a network: it keeps what it is given, or fails as the test says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from orgseg_node.errors import NetworkError, NotDicom, OrgsegError, Unreachable
from orgseg_node.node.config.destinations import Destination, WebDestination
from orgseg_node.node.dimse.storage_scu import SendOutcome, Stored


class MemorySender:
    """Keeps SOP Instance UIDs.

    Attributes
    ----------
    received : what has arrived, in order
    status : the answer to each object
    failures : errors to raise first, one for each call
    there : whether the peer is there at all
    """

    def __init__(self) -> None:
        self.received: list[str] = []
        self.status = 0
        self.failures: list[NetworkError] = []
        self.there = True

    def echo(self, destination: Destination | WebDestination, calling_ae: str) -> None:
        if not self.there:
            raise Unreachable(f"{destination.description} for {calling_ae}.")

    def send(self, destination: Destination | WebDestination, calling_ae: str, path: Path) -> Stored:
        self.echo(destination, calling_ae)
        if self.failures:
            raise self.failures.pop(0)
        sop_uid = str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        self.received.append(sop_uid)
        return Stored(sop_uid=sop_uid, status=self.status)

    def send_each(
        self, destination: Destination | WebDestination, calling_ae: str, paths: Sequence[Path]
    ) -> Iterator[SendOutcome]:
        for path in paths:
            try:
                pydicom.dcmread(path, specific_tags=["SOPInstanceUID"])
                yield self.send(destination, calling_ae, path)
            except InvalidDicomError:
                yield NotDicom(path.name)
            except OrgsegError as error:
                yield error
