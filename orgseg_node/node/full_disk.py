"""The start of a node on a full disk: it waits for space, and answers meanwhile.

A process that ended would be started again a few times and then given up by its supervisor, and nobody would
answer the senders. So the node opens its ports, refuses every image with 0xA700 (senders keep it and try
again), reports the reason in ``/readyz``, and starts as soon as there is space.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn

import structlog

from orgseg_node import durable
from orgseg_node.errors import DiskFull
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.parts import EntryPoint
from orgseg_node.node.store.model import Incoming

PROBLEM: Final = "disk full: waiting for space"
_NEEDED_BYTES: Final = 8_000_000  # what the databases may write while the node starts
_LOGGED_EVERY_S: Final = 300.0

_log = structlog.get_logger("orgseg.node")


class RefusingIntake:
    """An intake that stores nothing.

    Parameters
    ----------
    error : why
    folder : the data folder
    """

    def __init__(self, error: DiskFull, folder: Path) -> None:
        self._error = error
        self._folder = folder

    @property
    def receiving_folder(self) -> Path:
        """The data folder; what does not fit is refused."""
        return self._folder

    def accept(self, incoming: Incoming) -> NoReturn:
        """Raise DiskFull, which the sender gets as 0xA700."""
        del incoming
        raise DiskFull(self._error.detail)

    def association_ended(
        self, association: int, *, released: bool = False, cause: str = "", incomplete: str = ""
    ) -> None:
        """Nothing was stored.

        Parameters
        ----------
        association, released, cause, incomplete : see `Intake.association_ended`
        """


def require_space_to_start(folder: Path) -> None:
    """Raise DiskFull unless a file of 8 MB can be written into a folder."""
    probe = folder / f".space.{secrets.token_hex(4)}"
    try:
        durable.write_durably(probe, bytes(_NEEDED_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def await_space(
    config: NodeConfig,
    entry_points: Sequence[EntryPoint],
    stop: threading.Event,
    *,
    poll_s: float = 5.0,
    require_space: Callable[[Path], None] = require_space_to_start,
) -> None:
    """Return when the data folder has space for the start, or when the node is to stop.

    Until then images are refused.

    Parameters
    ----------
    config : the checked configuration
    entry_points : other ways into the node, which report the problem meanwhile
    stop : ends the waiting
    poll_s : interval between two checks, in seconds
    require_space : raises DiskFull if there is no space in a folder
    """
    error = _problem(config, require_space)
    if error is None:
        return
    with ExitStack() as opened:
        if "receiver" in config.worker.roles:
            receiver = Receiver(config, RefusingIntake(error, config.node.data_dir))
            receiver.start()
            opened.callback(receiver.stop)
        for entry_point in entry_points:
            opened.callback(entry_point.stop)
            entry_point.start_refusing(config, PROBLEM)
        waited_s = 0.0
        while error is not None:
            if waited_s % _LOGGED_EVERY_S < poll_s:
                _log.error(
                    "no space to start", code=error.code, detail=error.detail, next_step=error.next_step
                )
            if stop.wait(poll_s):
                return
            waited_s += poll_s
            error = _problem(config, require_space)
    _log.info("space to start", waited_s=round(waited_s, 1))


def _problem(config: NodeConfig, require_space: Callable[[Path], None]) -> DiskFull | None:
    try:
        require_space(config.node.data_dir)
    except DiskFull as error:
        return error
    return None
