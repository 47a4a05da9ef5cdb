"""Which organ a person meant by the name of a structure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from orgseg_node.core.organs import OrganTable
from orgseg_training.datasets.description import DataSet


def normal(name: str) -> str:
    """A name without case, blanks and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionary:
    """Names and patterns of names, by organ.

    Attributes
    ----------
    names : key of the organ table by normal name
    patterns : by key; must match a name as a whole, without regard to case
    """

    names: Mapping[str, str]
    patterns: Mapping[str, re.Pattern[str]]

    def organ(self, name: str) -> str | None:
        """The organ a name means; None where it means none, or patterns of several organs fit."""
        known = self.names.get(normal(name))
        if known is not None:
            return known
        fits = [organ for organ, pattern in self.patterns.items() if pattern.fullmatch(name.strip())]
        return fits[0] if len(fits) == 1 else None


def dictionary(data_set: DataSet, table: OrganTable, more: Mapping[str, tuple[str, ...]]) -> Dictionary:
    """Names of a data set, of the organ table, and of a site; what is more particular comes first.

    Parameters
    ----------
    data_set : its ``rois`` and ``patterns``
    table : TG-263 names and keys
    more : names by organ, before all others
    """
    names = {normal(name): key for key, organ in table.items() for name in (key, organ.name)}
    for rois in (data_set.rois, more):
        names |= {normal(name): organ for organ, given in rois.items() for name in given}
    patterns = {organ: re.compile(pattern, re.IGNORECASE) for organ, pattern in data_set.patterns.items()}
    return Dictionary(names=names, patterns=patterns)
