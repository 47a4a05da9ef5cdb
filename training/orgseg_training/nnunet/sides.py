"""Which organ is on the other side of the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from orgseg_node.core.organs import PAIRS

_OTHER_SIDE: Final[Mapping[str, str]] = {
    one: other for pair in PAIRS.values() for one, other in (pair, tuple(reversed(pair)))
}


def other_sides(organs: Sequence[str]) -> list[int] | None:
    """The number of each organ in a mirrored patient, from that of organ 1; None if a partner is missing.

    Parameters
    ----------
    organs : keys of the organ table; the number of an organ is its position, from 1
    """
    numbers = {organ: number for number, organ in enumerate(organs, 1)}
    partners = [numbers.get(_OTHER_SIDE.get(organ, organ)) for organ in organs]
    found = [partner for partner in partners if partner is not None]
    return found if len(found) == len(partners) else None
