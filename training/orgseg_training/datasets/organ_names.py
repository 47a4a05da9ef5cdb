"""Which organ the name of a structure means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from orgseg_node.core.organs import OrganTable
from orgseg_training.datasets.description import DataSet


def normalise(name: str) -> str:
    """A name without case, blanks and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganNames:
    """Names and patterns of names, by organ.

    Attributes
    ----------
    names : key of the organ table by normalised name
    patterns : by key; must match a name completely, without regard to case
    """

    names: Mapping[str, str]
    patterns: Mapping[str, re.Pattern[str]]

    def organ(self, name: str) -> str | None:
        """The organ a name means; None if it means none, or patterns of several organs match."""
        known = self.names.get(normalise(name))
        if known is not None:
            return known
        fits = [organ for organ, pattern in self.patterns.items() if pattern.fullmatch(name.strip())]
        return fits[0] if len(fits) == 1 else None


def organ_names(
    data_set: DataSet, table: OrganTable, site_names: Mapping[str, tuple[str, ...]]
) -> OrganNames:
    """Names of the organ table, of a data set, and of a site; a later one replaces an earlier one.

    Parameters
    ----------
    data_set : its ``rois`` and ``patterns``
    table : TG-263 names and keys
    site_names : names used by the site, by organ
    """
    names = {normalise(name): key for key, organ in table.items() for name in (key, organ.name)}
    for rois in (data_set.rois, site_names):
        names |= {normalise(name): organ for organ, given in rois.items() for name in given}
    patterns = {organ: re.compile(pattern, re.IGNORECASE) for organ, pattern in data_set.patterns.items()}
    return OrganNames(names=names, patterns=patterns)
