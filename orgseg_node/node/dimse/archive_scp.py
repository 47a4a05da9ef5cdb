"""A storage SCP that writes what it receives into a folder: the TPS of the demonstration and of tests."""

from __future__ import annotations

import threading
from pathlib import Path

from pydicom.uid import CTImageStorage, RTStructureSetStorage, SegmentationStorage

from orgseg_node import durable
from orgseg_node.dicom.reading import part10
from orgseg_node.node.config.node_config import NodeConfig, NodeSection, ReceiverSection
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.monitoring.logs import configure_logs
from orgseg_node.node.signals import signal_events
from orgseg_node.node.store.model import Incoming

STORAGE_CLASSES = (CTImageStorage, RTStructureSetStorage, SegmentationStorage)


class FolderArchive:
    """Stores each instance as ``<SOP Instance UID>.dcm``; an instance that is sent again replaces itself.

    Parameters
    ----------
    folder : folder of the files; created if it does not exist
    min_free_mb : with less free disk space, instances are refused with 0xA700
    """

    def __init__(self, folder: Path, *, min_free_mb: int = 100) -> None:
        self._folder = folder
        self._min_free_mb = min_free_mb
        durable.make_folder(folder)

    def accept(self, incoming: Incoming) -> Path:
        """Store one instance durably; its file.

        Raises
        ------
        NotDicom, MissingAttribute, NotMatching
            If it is not the instance that was announced.
        DiskFull, NotDurable
            If it cannot be stored.
        """
        durable.require_space(self._folder, self._min_free_mb)
        header = part10.read_header(incoming.encoded, incoming.transfer_syntax)
        part10.require_match(header, incoming.sop_class_uid, incoming.sop_uid)
        path = self._folder / f"{header.sop_uid}.dcm"
        head = part10.part10_head(header.sop_class_uid, header.sop_uid, incoming.transfer_syntax)
        part10.write_part10(path, incoming.encoded, head)
        return path

    @property
    def receiving_folder(self) -> Path:
        """The folder itself."""
        return self._folder

    def association_ended(
        self, association: int, *, released: bool = False, cause: str = "", incomplete: str = ""
    ) -> None:
        """Nothing has to be done at the end of an association.

        Parameters
        ----------
        association, released, cause, incomplete : as for `Intake.association_ended`
        """


def run_archive(
    ae_title: str, folder: Path, *, host: str, port: int, stop: threading.Event | None = None
) -> None:
    """Run a folder archive until SIGTERM or Ctrl-C, or until `stop` is set. Any AE may send to it.

    Parameters
    ----------
    ae_title : its AE title
    folder : folder of the files; created if it does not exist
    host, port : where it listens
    stop : ends it when set, also by these signals

    Raises
    ------
    PortTaken, EnvironmentFault
        If it cannot listen.
    """
    configure_logs("text", "info")
    config = NodeConfig(
        node=NodeSection(ae_title=ae_title, host=host, port=port, data_dir=folder),
        receiver=ReceiverSection(accept_any_calling_ae=True, other_classes="refuse"),
    )
    stop = stop or threading.Event()
    receiver = Receiver(config, FolderArchive(folder), storage=STORAGE_CLASSES)
    with signal_events(stop):
        receiver.start()
        try:
            stop.wait()
        finally:
            receiver.stop()
