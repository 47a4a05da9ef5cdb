"""Sends to DICOM and DICOMweb destinations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from orgseg_node.node.config.destinations import Destination, WebDestination
from orgseg_node.node.delivery.stow_client import StowClient
from orgseg_node.node.dimse.storage_scu import DicomSender, SendOutcome, Stored


class AnySender:
    """Sends by DICOM or by DICOMweb, depending on the destination."""

    def __init__(self) -> None:
        self._dicom = DicomSender()
        self._web = StowClient()

    def echo(self, destination: Destination | WebDestination, calling_ae: str) -> None:
        """Check whether a destination answers. Raises NetworkError."""
        if isinstance(destination, WebDestination):
            self._web.echo(destination, calling_ae)
        else:
            self._dicom.echo(destination, calling_ae)

    def check(self, destination: Destination | WebDestination, calling_ae: str, *, seg: str) -> None:
        """Check whether a destination answers and, by DICOM, accepts the classes of its objects.

        Parameters
        ----------
        destination : the destination
        calling_ae : AE title of the node
        seg : kind of the DICOM Segmentation, ``binary`` or ``labelmap``

        Raises
        ------
        NetworkError
            If it does not.
        """
        self.echo(destination, calling_ae)
        if isinstance(destination, Destination):
            self._dicom.check_classes(destination, calling_ae, seg=seg)

    def send(self, destination: Destination | WebDestination, calling_ae: str, path: Path) -> Stored:
        """Store one object.

        Parameters
        ----------
        destination : where it is stored
        calling_ae : AE title of the node
        path : a DICOM part 10 file

        Raises
        ------
        NetworkError, NotDicom
            As `DicomSender.send` and `StowClient.send`.
        """
        if isinstance(destination, WebDestination):
            return self._web.send(destination, calling_ae, path)
        return self._dicom.send(destination, calling_ae, path)

    def send_each(
        self, destination: Destination | WebDestination, calling_ae: str, paths: Sequence[Path]
    ) -> Iterator[SendOutcome]:
        """Store objects, and return the outcome of each as soon as it is known.

        Parameters
        ----------
        destination : where they are stored
        calling_ae : AE title of the node
        paths : DICOM part 10 files
        """
        if isinstance(destination, WebDestination):
            return self._web.send_each(destination, calling_ae, paths)
        return self._dicom.send_each(destination, calling_ae, paths)
