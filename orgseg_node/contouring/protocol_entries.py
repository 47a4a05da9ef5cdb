"""The entries in the list of structures of a protocol.

Numbers must be numbers: ``true`` or ``"5"`` in place of millimetres is reported as an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from orgseg_node.core.margins import Margin
from orgseg_node.core.postprocess import FillHoles, Postprocessing

FORMS: Final = ("one", "three", "six")
"""The forms of a margin, as they appear in the location of a problem."""

Implausible = Literal["drop", "hold", "flag"]
"""What is done with an organ that is almost certainly wrong."""


def _printable(name: str) -> str:
    if not name.isprintable() or name != name.strip() or "\\" in name:
        raise ValueError("a name has no blanks around it, no backslash and no characters that cannot be seen")
    return name


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
"""A ROI Name: at most 64 characters of one value (PS3.5, LO)."""
Mm = Annotated[float, Field(strict=True, ge=0, le=200)]
_Ml = Annotated[float, Field(strict=True, ge=0)]
_Flag = Annotated[bool, Field(strict=True)]
_Channel = Annotated[int, Field(strict=True, ge=0, le=255)]
Color = tuple[_Channel, _Channel, _Channel]
_Type = Literal["ORGAN", "OAR", "AVOIDANCE", "CONTROL", "EXTERNAL", "CAVITY", "SUPPORT", "FIXATION"]


class Section(BaseModel):
    """A table of a protocol: immutable, without unknown settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class SixMm(Section):
    """A margin for each direction of the patient."""

    left: Mm = 0.0
    right: Mm = 0.0
    anterior: Mm = 0.0
    posterior: Mm = 0.0
    superior: Mm = 0.0
    inferior: Mm = 0.0


def _form(value: Any) -> str:
    """The form in which a margin is given."""
    if isinstance(value, (dict, SixMm)):
        return "six"
    return "three" if isinstance(value, (list, tuple)) else "one"


MarginMm = Annotated[
    Annotated[Mm, Tag("one")] | Annotated[tuple[Mm, Mm, Mm], Tag("three")] | Annotated[SixMm, Tag("six")],
    Discriminator(_form),
]
"""One margin, three (left-right, front-back, head-feet), or six by name."""


def margin_of(value: MarginMm) -> Margin:
    """A margin as the core represents it."""
    if isinstance(value, SixMm):
        return Margin(**value.model_dump())
    if isinstance(value, tuple):
        return Margin.per_axis(*value)
    return Margin.uniform(value)


class OrganEntry(Section):
    """An organ that a model finds.

    Attributes
    ----------
    organ : its key in the organ table
    name, color, type : replace those of the organ table
    min_ml : an organ with a smaller volume is left out
    split : keys of the left and the right organ into which it is divided
    implausible : replaces the protocol's setting for this organ
    max_distance_mm : pieces that are farther than this from the largest one are removed first
    keep_components, min_island_ml, fill_holes, interpolate_slices : see `Postprocessing`
    """

    organ: str
    name: Name | None = None
    color: Color | None = None
    type: _Type | None = None
    min_ml: _Ml = 0.0
    split: tuple[str, str] | None = None
    implausible: Implausible | None = None
    keep_components: Annotated[int, Field(strict=True, ge=1)] | None = None
    min_island_ml: _Ml = 0.0
    fill_holes: FillHoles = FillHoles.NONE
    interpolate_slices: _Flag = False
    max_distance_mm: Annotated[float, Field(strict=True, ge=0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> OrganEntry:
        if self.split and (self.name or self.color):
            raise ValueError("what is split takes names and colours of the two organs in the organ table")
        return self

    @property
    def tidying(self) -> Postprocessing:
        """How it is tidied."""
        return Postprocessing(
            keep_components=self.keep_components,
            min_island_ml=self.min_island_ml,
            fill_holes=self.fill_holes,
            interpolate_slices=self.interpolate_slices,
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the resulting organs."""
        return self.split or (self.organ,)


class DerivedEntry(Section):
    """A structure made from organs, or from structures derived before it.

    Attributes
    ----------
    name : its ROI Name
    derive : ``margin`` (grown), ``shrink``, ``ring``, ``union``, ``intersection``, ``subtraction``
    source : keys of organs, or names of structures derived before; except for an intersection, several are
        united first
    minus : for a subtraction, keys or names of what is subtracted
    margin_mm : for margin and shrink; for a subtraction, the margin around what is subtracted
    inner_mm, outer_mm : for a ring, distances of its inner and outer surface from the source
    inside_body_mm : limits it to the body, at this depth below the skin; None for no limit
    like : key of the organ whose codes it gets; by default, those of the first source
    """

    name: Name
    derive: Literal["margin", "shrink", "ring", "union", "intersection", "subtraction"]
    source: Annotated[tuple[str, ...], Field(alias="from", min_length=1)]
    minus: tuple[str, ...] = ()
    margin_mm: MarginMm = 0.0
    inner_mm: MarginMm = 0.0
    outer_mm: MarginMm = 0.0
    inside_body_mm: Mm | None = None
    like: str | None = None
    color: Color | None = None
    type: _Type | None = None

    @model_validator(mode="after")
    def _check(self) -> DerivedEntry:
        given = self.model_fields_set
        required: dict[str, set[str]] = {
            "margin": {"margin_mm"},
            "shrink": {"margin_mm"},
            "ring": {"outer_mm"},
            "subtraction": {"minus"},
        }
        allowed = {"ring": {"inner_mm"}, "subtraction": {"margin_mm"}}
        need = required.get(self.derive, set())
        problems = [f"'{self.derive}' needs {name}" for name in sorted(need - given)]
        fitting = need | allowed.get(self.derive, set())
        extra = {"margin_mm", "inner_mm", "outer_mm", "minus"} & given - fitting
        problems += [f"'{self.derive}' has no {name}" for name in sorted(extra)]
        if self.derive == "ring" and "outer_mm" in given and self._is_no_ring:
            problems.append("inner_mm must be less than outer_mm, or nothing is left of the ring")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def key(self) -> str:
        """Its stable name among all structures."""
        return f"derived {self.name.casefold()}"

    @property
    def _is_no_ring(self) -> bool:
        inner, outer = margin_of(self.inner_mm).values_mm, margin_of(self.outer_mm).values_mm
        return all(near >= far for near, far in zip(inner, outer, strict=True))


class External(Section):
    """The body contour as a structure; it may limit the dose calculation."""

    name: Name = "BODY"
    color: Color | None = None


def _kind(value: Any) -> str:
    derives = "derive" in value if isinstance(value, dict) else isinstance(value, DerivedEntry)
    return "derived" if derives else "organ"


Entry = Annotated[
    Annotated[OrganEntry, Tag("organ")] | Annotated[DerivedEntry, Tag("derived")], Discriminator(_kind)
]
"""An organ, or a derived structure if it has ``derive``."""
