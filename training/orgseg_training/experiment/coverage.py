"""How often each organ was drawn, outside the scan, or not drawn; shows organs that are empty everywhere."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.durable import write_json
from orgseg_training.errors import NoPositives

Coverage = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Number of scans by data set, organ and state."""


def coverage_of(cases: Iterable[StoredCase]) -> Coverage:
    """Count the states of every organ that a data set looked for in any of its scans."""
    by_database: defaultdict[str, list[StoredCase]] = defaultdict(list)
    for case in cases:
        by_database[case.database].append(case)
    return {
        database: {
            organ: Counter(str(case.state(organ)) for case in members)
            for organ in sorted({organ for case in members for organ in case.states})
        }
        for database, members in sorted(by_database.items())
    }


def require_drawn(cases: Sequence[StoredCase], organs: Iterable[str], file: Path) -> None:
    """Write the counts, and refuse an experiment with an organ that was drawn nowhere.

    Parameters
    ----------
    cases : all scans
    organs : that are to be trained
    file : to write: the counts, and by data set the organs that were looked for and are empty in all its
        scans

    Raises
    ------
    NoPositives
        With every organ that was drawn in no scan of any data set.
    StorageError
        If the counts cannot be written.
    """
    coverage = coverage_of(cases)
    empty = {
        database: [organ for organ, counts in organs_of.items() if not counts.get(OrganState.DRAWN, 0)]
        for database, organs_of in coverage.items()
    }
    write_json(file, {"scans": coverage, "looked_for_and_never_there": empty})
    drawn = {organ for case in cases for organ in case.drawn}
    missing = [organ for organ in organs if organ not in drawn]
    if missing:
        raise NoPositives(f"Drawn in no scan of any data set: {', '.join(missing)}.")
