"""The roles of the objects of a job: what an object is, and to which other objects of the job it refers.

An object refers only to what its recipient gets too. A recipient of RT Structure Set and Segmentation gets
the two that refer to each other. Others get variants of them, which are SOP instances of their own:

===================  ==================================================================================
role                 object
===================  ==================================================================================
``RTSTRUCT``         RT Structure Set; refers to ``SEG``
``RTSTRUCT:alone``   the same without this reference
``RTSTRUCT:NAME``    within the limits of a planning system; refers to no other object
``SEG``              Segmentation; refers to ``RTSTRUCT``
``SEG:alone``        the same without this reference
``SR``               structured report on the segments of ``SEG``
``SR:SEG``           the same on those of ``SEG:alone``
``SR:alone``         the same measurements without references to segments
``PDF``              report; refers to ``RTSTRUCT`` and ``SEG``
``PDF:alone``        the same without references
``CT:UID``           one image of the planning CT, as it was received
===================  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

RTSTRUCT, SEG, SR, PDF, CT = "RTSTRUCT", "SEG", "SR", "PDF", "CT"

ALONE: Final = "alone"
RTSTRUCT_ALONE: Final = f"{RTSTRUCT}:{ALONE}"
SEG_ALONE: Final = f"{SEG}:{ALONE}"
SR_OF_SEG_ALONE: Final = f"{SR}:{SEG}"
SR_ALONE: Final = f"{SR}:{ALONE}"
PDF_ALONE: Final = f"{PDF}:{ALONE}"
IMAGE: Final = f"{CT}:"
"""The beginning of the role of an image of the planning CT; its SOP Instance UID follows."""


def kind_of(role: str) -> str:
    """What an object is: the word in ``objects`` of a destination."""
    return role.partition(":")[0]


def roles_of(kinds: Sequence[str], tps: str | None = None) -> tuple[str, ...]:
    """The roles of the objects of a recipient, which refer to nothing that it does not get.

    Parameters
    ----------
    kinds : kinds of objects that it gets
    tps : planning system for which its RT Structure Set is written; None for the general one
    """
    together = RTSTRUCT in kinds and SEG in kinds and tps is None
    own = {
        RTSTRUCT: f"{RTSTRUCT}:{tps}" if tps else RTSTRUCT if together else RTSTRUCT_ALONE,
        SEG: SEG if together else SEG_ALONE,
        SR: SR if together else SR_OF_SEG_ALONE if SEG in kinds else SR_ALONE,
        PDF: PDF if together else PDF_ALONE,
    }
    return tuple(own.get(kind, kind) for kind in kinds)


def alone_role(role: str) -> str:
    """The role of the same content without any reference, for one who may get none of the other objects."""
    kind, _, variant = role.partition(":")
    own = {RTSTRUCT: RTSTRUCT_ALONE, SEG: SEG_ALONE, SR: SR_ALONE, PDF: PDF_ALONE}
    is_for_tps = kind == RTSTRUCT and variant not in {"", ALONE}  # it refers to no other object
    return role if kind not in own or is_for_tps else own[kind]


def written_instead(role: str) -> str:
    """The role that was written before there were variants; jobs that are older have only these."""
    kind, _, variant = role.partition(":")
    return kind if variant in {ALONE, SEG} else role
