"""Which organ the name of a structure means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from orgseg_node.core.naming.dictionary import NameDictionary, name_dictionary
from orgseg_node.core.naming.words import folded
from orgseg_node.core.organs import OrganTable
from orgseg_training.datasets.description import DataSet


class RoiNames(Protocol):
    """Which organ the name of an ROI means."""

    def organ(self, name: str, /) -> str | None:
        """The key of the organ; None if it means none, or that is not certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganNames:
    """Names and patterns of names, by organ.

    Attributes
    ----------
    names : key of the organ table by normalised name
    patterns : by key; must match a name completely, without regard to case
    dictionary : the names that everybody uses
    """

    names: Mapping[str, str]
    patterns: Mapping[str, re.Pattern[str]]
    dictionary: NameDictionary

    def organ(self, name: str, /) -> str | None:
        """The organ a name means; None if it means none, or patterns of several organs match."""
        known = self.names.get(folded(name)) or self.dictionary.organ(name)
        if known is not None:
            return known
        fits = [organ for organ, pattern in self.patterns.items() if pattern.fullmatch(name.strip())]
        return fits[0] if len(fits) == 1 else None


def organ_names(
    data_set: DataSet, table: OrganTable, site_names: Mapping[str, tuple[str, ...]]
) -> OrganNames:
    """Names of a data set and of a site, which replace those of everybody; a site's replace the data set's.

    Parameters
    ----------
    data_set : its ``rois`` and ``patterns``
    table : TG-263 names and keys
    site_names : names used by the site, by organ
    """
    names: dict[str, str] = {}
    for rois in (data_set.rois, site_names):
        names |= {folded(name): organ for organ, given in rois.items() for name in given}
    patterns = {organ: re.compile(pattern, re.IGNORECASE) for organ, pattern in data_set.patterns.items()}
    return OrganNames(names=names, patterns=patterns, dictionary=name_dictionary(table))
