"""How much each person edits each organ, and whether that fades with time."""

from __future__ import annotations

from dataclasses import dataclass

from orgseg_node.core.control.fading import Fading, fading
from orgseg_node.node.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerEdits:
    """The edits of one organ by one person.

    Attributes
    ----------
    planner : number of the person
    organ : its key
    edits : share of the slices that were edited, one for each case
    fading : how they change with time
    """

    planner: str
    organ: str
    edits: tuple[float, ...]
    fading: Fading


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edit:
    planner: str
    organ: str
    slices_edited: float


def planner_edits(database: Database) -> list[PlannerEdits]:
    """The edits of each organ by each person, in the order in which the structure sets came."""
    rows = database.read(
        _Edit,
        "SELECT f.planner, o.organ, o.slices_edited FROM feedback_organ o JOIN feedback f"
        " ON f.number = o.number AND f.state = 'COUNTED' WHERE f.planner <> '' AND o.slices_edited >= 0"
        " ORDER BY o.number, o.position",
    )
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        found.setdefault((row.planner, row.organ), []).append(row.slices_edited)
    return [
        PlannerEdits(planner=planner, organ=organ, edits=tuple(edits), fading=fading(edits))
        for (planner, organ), edits in sorted(found.items())
    ]
