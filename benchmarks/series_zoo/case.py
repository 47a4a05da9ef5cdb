"""One series of the zoo: how it is written, and how a reader must deal with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.series_zoo.assessment import Assessment, Outcome
from tests.support.ct.zoo import Scan, Stack, write

Build = Callable[[Path], list[Stack]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooCase:
    """A series, or a folder of several.

    Attributes
    ----------
    name : what is awkward about it
    build : writes the files and returns the true slices of each series or phase in them
    outcome : how the node must deal with it
    codes : codes with which it may be refused
    """

    name: str
    build: Build
    outcome: Outcome = Outcome.EXACT
    codes: frozenset[str] = frozenset()

    def is_as_expected(self, assessment: Assessment) -> bool:
        """Whether an assessment is the expected one."""
        return assessment.outcome == self.outcome and (not self.codes or assessment.code in self.codes)

    @property
    def expected(self) -> str:
        """The expected outcome and codes, for messages."""
        return f"{self.outcome} {' or '.join(sorted(self.codes))}".strip()


def exact(name: str, build: Build | Scan) -> ZooCase:
    """A series that must be read, every pixel at its true position."""
    return ZooCase(name=name, build=_writer(build))


def refused(name: str, build: Build | Scan, *codes: str) -> ZooCase:
    """A series that must be refused with one of the codes."""
    return ZooCase(name=name, build=_writer(build), outcome=Outcome.REFUSED, codes=frozenset(codes))


def parts(name: str, build: Build, code: str) -> ZooCase:
    """A folder of which a part must be selected; each part of it must be exact.

    Parameters
    ----------
    name : what is awkward about it
    build : writes the files and returns the true slices of each part
    code : with which the whole folder must be refused
    """
    return ZooCase(name=name, build=build, outcome=Outcome.PARTS, codes=frozenset({code}))


def _writer(build: Build | Scan) -> Build:
    if isinstance(build, Scan):
        return lambda folder: [write(folder, build)]
    return build
