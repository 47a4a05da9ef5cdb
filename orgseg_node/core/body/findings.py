"""What a person should know about the body contour."""

from __future__ import annotations

from typing import Final

from orgseg_node.core.checks import Finding, Level

_MENTIONED_ML: Final = 20.0  # from this volume on, objects are mentioned


def body_findings(
    *, touches_fov: bool, diameter_mm: float, parts: int, removed_ml: float, doubtful_ml: float
) -> tuple[Finding, ...]:
    """The findings on a body contour.

    Parameters
    ----------
    touches_fov : whether the patient touches the edge of the field of view
    diameter_mm : effective diameter of the patient
    parts : number of separate parts of the patient
    removed_ml : volume of the solid objects that were left out
    doubtful_ml : volume of what may be an object, but stays in the body
    """
    found = [
        Finding(
            level=Level.INFO,
            code="BODY_EFFECTIVE_DIAMETER",
            message=f"The patient's effective diameter is {diameter_mm:.0f} mm (median over the slices).",
            value=round(diameter_mm, 1),
        )
    ]
    if parts > 1:
        found.append(
            Finding(
                level=Level.INFO,
                code="BODY_SEVERAL_PARTS",
                message=f"The patient is visible as {parts} separate parts, such as arms or legs.",
                value=float(parts),
            )
        )
    if removed_ml >= _MENTIONED_ML:
        found.append(
            Finding(
                level=Level.INFO,
                code="BODY_OBJECTS_REMOVED",
                message=f"{removed_ml:.0f} ml of couch, rests or other objects were left out of the body.",
                value=round(removed_ml, 1),
            )
        )
    if doubtful_ml >= _MENTIONED_ML:
        found.append(
            Finding(
                level=Level.WARNING,
                code="BODY_OBJECT_DOUBTFUL",
                message=f"{doubtful_ml:.0f} ml at the surface may be a couch or a rest. They are in the body "
                "contour; check it.",
                value=round(doubtful_ml, 1),
            )
        )
    if touches_fov:
        found.append(
            Finding(
                level=Level.WARNING,
                code="BODY_TOUCHES_FOV",
                message="The patient touches the edge of the field of view; organs there may be cut.",
            )
        )
    return tuple(found)
