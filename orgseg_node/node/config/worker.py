"""Configuration section ``worker``: what this process does, alone or together with others."""

from __future__ import annotations

import socket
from typing import Annotated, Literal

from pydantic import Field

from orgseg_node.node.config.section import Section

NodeRole = Literal["receiver", "worker"]


class WorkerSection(Section):
    """What this process does, and its name among several.

    Attributes
    ----------
    name : name of this worker, unique and the same after each start; the host name when None
    roles : to receive, to contour and deliver, or both
    dead_after_s : with PostgreSQL, a worker without a heartbeat for this time is taken to be dead
    ageing_per_hour : how much more urgent a job becomes with each hour of waiting; 0 for strict priorities
    deaths : a job during which so many processes died goes to the dead letter
    spare_child : whether a process waits for the next job with all libraries loaded (about 400 MB) and reads
        the next series during its quiet time; without it each job takes some seconds longer
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] | None = None
    roles: Annotated[tuple[NodeRole, ...], Field(min_length=1)] = ("receiver", "worker")
    dead_after_s: Annotated[float, Field(ge=3, le=3600)] = 60.0
    ageing_per_hour: Annotated[float, Field(ge=0, le=1000)] = 10.0
    deaths: Annotated[int, Field(ge=1, le=20)] = 3
    spare_child: bool = True

    @property
    def own_name(self) -> str:
        """The name of this worker."""
        return self.name or socket.gethostname()[:64]
