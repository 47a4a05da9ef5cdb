"""One series of the zoo: how it is made, and what must become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.series_zoo.verdict import Outcome, Verdict
from tests.support.ct.zoo import Scan, Stack, write

Build = Callable[[Path], list[Stack]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A series, or a folder of several.

    Attributes
    ----------
    name : what is awkward about it
    build : writes the files and says what is true of each series or phase in them
    outcome : what this node must make of it
    codes : the reasons for which it may be refused, or asked about
    """

    name: str
    build: Build
    outcome: Outcome = Outcome.EXACT
    codes: frozenset[str] = frozenset()

    def is_met_by(self, verdict: Verdict) -> bool:
        """Whether a verdict is the expected one."""
        return verdict.outcome == self.outcome and (not self.codes or verdict.code in self.codes)

    @property
    def wanted(self) -> str:
        """What must become of it, for people."""
        return f"{self.outcome} {' or '.join(sorted(self.codes))}".strip()


def exact(name: str, build: Build | Scan) -> Row:
    """A series that must be read, every pixel in its place."""
    return Row(name=name, build=_writer(build))


def refused(name: str, build: Build | Scan, *codes: str) -> Row:
    """A series that must be refused for one of the reasons."""
    return Row(name=name, build=_writer(build), outcome=Outcome.REFUSED, codes=frozenset(codes))


def parts(name: str, build: Build, code: str) -> Row:
    """A folder about which one must be asked; each part of it must be exact."""
    return Row(name=name, build=build, outcome=Outcome.PARTS, codes=frozenset({code}))


def _writer(build: Build | Scan) -> Build:
    if isinstance(build, Scan):
        return lambda folder: [write(folder, build)]
    return build
