"""Which ROI of another structure set stands for which organ of the node's: for certain, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orgseg_node.core.naming.dictionary import NameDictionary


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedNames:
    """The ROIs of two structure sets that belong together.

    Attributes
    ----------
    pairs : index of the ROI that came back, by the name of the delivered one
    organs : key of the organ of each delivered name; the name itself if the dictionary has no such organ
    meant : key of the organ that each ROI that came back means, by index; only of those in no pair
    unclear : indices of ROIs that came back of which several stand for one organ
    several : delivered names for which several ROIs that came back stand, so that it has no pair
    """

    pairs: Mapping[str, int]
    organs: Mapping[str, str]
    meant: Mapping[int, str]
    unclear: frozenset[int]
    several: frozenset[str]


def match_names(
    delivered: Mapping[str, str], returned: Sequence[str], dictionary: NameDictionary
) -> MatchedNames:
    """Find the delivered organ of each ROI that came back.

    The same name is the same organ, whatever its case. Otherwise the dictionary decides, if exactly one ROI
    stands for an organ. Nothing is guessed.

    Parameters
    ----------
    delivered : key of the organ of each delivered ROI name; an empty key if it is not known
    returned : names of the ROIs that came back
    dictionary : of organ names
    """
    organs = {name: key or dictionary.organ(name) or name for name, key in delivered.items()}
    folded = {_fold(name): name for name in delivered}
    same: dict[str, list[int]] = {}
    rest: dict[int, str] = {}
    for index, name in enumerate(returned):
        if _fold(name) in folded:
            same.setdefault(folded[_fold(name)], []).append(index)
        elif key := dictionary.organ(name):
            rest[index] = key
    pairs = {name: found[0] for name, found in same.items() if len(found) == 1}
    unclear = {index for found in same.values() if len(found) > 1 for index in found}
    by_organ = {key: name for name, key in organs.items() if name not in same}
    counts = Counter(rest.values())
    several = {name for name, found in same.items() if len(found) > 1}
    several |= {name for key, name in by_organ.items() if counts[key] > 1}
    meant: dict[int, str] = {}
    for index, key in rest.items():
        if key in by_organ and counts[key] == 1:
            pairs[by_organ[key]] = index
        elif key in by_organ or key in organs.values():
            unclear.add(index)
        else:
            meant[index] = key
    return MatchedNames(
        pairs=pairs, organs=organs, meant=meant, unclear=frozenset(unclear), several=frozenset(several)
    )


def _fold(name: str) -> str:
    return " ".join(name.split()).casefold()
