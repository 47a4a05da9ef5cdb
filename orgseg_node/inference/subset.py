"""Only the networks that the requested organs need, with the labels of a run of all networks.

Where organs overlap, the one of the highest rank gets the voxel, so a voxel of a requested organ depends on
the networks of the requested organs and on networks of organs of higher rank. The latter can only take voxels
that a requested organ has, so they are run only there; networks that can take none are not run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from orgseg_node.inference.bundles.bundle import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSelection:
    """The networks of a bundle that a request needs.

    Attributes
    ----------
    requested : keys of the requested organs that the bundle finds
    whole : networks of requested organs, which are run on the whole CT
    contesting : networks that can only take voxels from requested organs, run where these are
    not_searched : keys of organs of the bundle that the result does not have
    """

    requested: frozenset[str]
    whole: tuple[Part, ...]
    contesting: tuple[Part, ...]
    not_searched: tuple[str, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The networks in the order in which they are run."""
        return (*self.whole, *self.contesting)

    def describe(self, networks: int) -> str:
        """What was left out, for the description of the method; empty if nothing was.

        Parameters
        ----------
        networks : number of networks of the bundle
        """
        if not self.not_searched:
            return ""
        return f", {len(self.whole)} of {networks} networks for the requested organs"


def select_networks(
    parts: Sequence[Part], ranks: Mapping[str, int], requested: Collection[str] | None
) -> NetworkSelection:
    """The networks that the requested organs need.

    Parameters
    ----------
    parts : all networks of a bundle
    ranks : rank of each organ of the bundle; where organs overlap, the higher rank gets the voxel
    requested : keys of organs, also of such that the bundle does not find; None for all organs
    """
    organs = tuple(dict.fromkeys(key for part in parts for key in part.labels.values()))
    wanted = frozenset(organs if requested is None else (key for key in organs if key in requested))
    lowest = min((ranks[key] for key in wanted), default=None)
    whole = tuple(part for part in parts if wanted & set(part.labels.values()))
    contesting = tuple(
        part
        for part in parts
        if part not in whole and lowest is not None and highest_rank(part, ranks) > lowest
    )
    return NetworkSelection(
        requested=wanted,
        whole=whole,
        contesting=contesting,
        not_searched=tuple(key for key in organs if key not in wanted),
    )


def highest_rank(part: Part, ranks: Mapping[str, int]) -> int:
    """The highest rank of the organs of a network."""
    return max(ranks[key] for key in part.labels.values())


def organs_across(
    organs: Sequence[Sequence[str]], ranks: Mapping[str, int], requested: Collection[str]
) -> list[frozenset[str]]:
    """The organs that each of several bundles must find, so that merging gives the requested organs.

    Parameters
    ----------
    organs : keys of the organs of each bundle
    ranks : rank of each organ among those of all bundles
    requested : keys of the requested organs

    Returns
    -------
    for each bundle its requested organs, and those that can take voxels from a requested organ of another
    """
    wanted = [frozenset(requested).intersection(keys) for keys in organs]
    found = []
    for number, keys in enumerate(organs):
        elsewhere = [ranks[key] for n, other in enumerate(wanted) if n != number for key in other]
        lowest = min(elsewhere, default=None)
        contest = {key for key in keys if lowest is not None and ranks[key] > lowest}
        found.append(wanted[number] | contest)
    return found
