"""Counters and durations of the running process for a monitoring system.

Labels hold AE titles of known peers, names of destinations and codes of errors: a bounded number of values
without patient data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from orgseg_node.errors import OrgsegError

_FAST: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SLOW: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Meters:
    """Counters and durations of one process, in a registry of its own."""

    def __init__(self) -> None:
        registry = CollectorRegistry(auto_describe=False)
        self.registry = registry
        self.instances = Counter(
            "orgseg_received_instances", "Accepted instances.", ["peer"], registry=registry
        )
        self.bytes = Counter(
            "orgseg_received_bytes", "Bytes of accepted instances.", ["peer"], registry=registry
        )
        self.refused_instances = Counter(
            "orgseg_refused_instances",
            "Refused instances, by error code.",
            ["reason"],
            registry=registry,
        )
        self.refused_associations = Counter(
            "orgseg_refused_associations", "Rejected associations.", ["reason"], registry=registry
        )
        self.refused_contexts = Counter(
            "orgseg_refused_contexts",
            "Rejected presentation contexts, by what is not accepted.",
            ["reason"],
            registry=registry,
        )
        self.broken_associations = Counter(
            "orgseg_broken_associations",
            "Associations that were not released, by cause.",
            ["cause"],
            registry=registry,
        )
        self.accept_seconds = Histogram(
            "orgseg_accept_seconds",
            "From receiving an instance to storing it durably.",
            buckets=_FAST,
            registry=registry,
        )
        self.infer_seconds = Histogram(
            "orgseg_infer_seconds",
            "One run of the child process that contours.",
            buckets=_SLOW,
            registry=registry,
        )
        self.send_seconds = Histogram(
            "orgseg_send_seconds", "One attempt to send.", ["destination"], buckets=_SLOW, registry=registry
        )

    @contextmanager
    def accepting(self, peer: str, size: int) -> Iterator[None]:
        """Count one instance: as accepted, or as refused if the block raises."""
        start = monotonic()
        try:
            yield
        except OrgsegError as error:
            self.refused_instances.labels(error.code).inc()
            raise
        except Exception:
            self.refused_instances.labels("UNEXPECTED").inc()
            raise
        self.accept_seconds.observe(monotonic() - start)
        self.instances.labels(peer).inc()
        self.bytes.labels(peer).inc(size)
