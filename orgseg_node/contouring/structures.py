"""Doing what a protocol asks for: from what the networks found to what the structure set shall hold.

The organs stay a label map, one organ for each voxel; whatever is derived from them becomes a `Region` of its
own. A protocol that asks for nothing changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.contouring.protocol import Protocol
from orgseg_node.contouring.protocol_entries import DerivedEntry, External, OrganEntry, margin_of
from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import Box, FloatArray, Place
from orgseg_node.core.margins import Margin, grow, ring, shrink
from orgseg_node.core.organs import Organ, OrganTable
from orgseg_node.core.postprocess import Tidying, split_sides, tidy
from orgseg_node.core.regions import Region
from orgseg_node.core.volume import LabelMap, Mask

_MUCH: Final = 0.05  # tidying that changes more than this part of an organ is worth a look
_FILL_AROUND: Final = 1  # voxels around an organ that filling may look at
_BODY: Final = "body"  # key of the patient in the organ table
_EXTERNAL: Final = "external"  # key of the outline as a structure: a model may find a body besides


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Applied:
    """What a protocol made of a result.

    Attributes
    ----------
    label_map : the organs, under the names and colours of the protocol
    regions : what was derived from them
    order : keys of organs and regions in the order of the protocol
    findings : what a person should know of it
    recorded : what was done, one row for each structure, for report.json
    """

    label_map: LabelMap
    regions: tuple[Region, ...]
    order: tuple[str, ...]
    findings: tuple[Finding, ...]
    recorded: tuple[dict[str, Any], ...]


def apply(protocol: Protocol, label_map: LabelMap, body: Mask, table: OrganTable) -> Applied:
    """Do what a protocol asks for.

    Parameters
    ----------
    protocol : see `Protocol`
    label_map : what the networks found, on the slices of the CT; not changed
    body : (K, J, I) bool, the patient on the same slices
    table : the organ table

    Raises
    ------
    ConfigError
        If the protocol names an organ that the table does not have.
    """
    protocol.check_organs(table)
    work = _Work(label_map, body, table)
    for listed in protocol.organs:
        work.organ(listed)
    for made in protocol.derived:
        work.derived(made)
    if protocol.external is not None:
        work.external(protocol.external)
    if protocol.others == "drop":
        work.drop_all_but({key for entry in protocol.organs for key in entry.keys})
    order = [(e.key,) if isinstance(e, DerivedEntry) else e.keys for e in protocol.structures]
    return Applied(
        label_map=LabelMap(grid=label_map.grid, labels=work.labels, organs=work.organs),
        regions=tuple(work.regions),
        order=tuple(key for keys in order for key in keys),
        findings=tuple(work.findings),
        recorded=tuple(work.recorded),
    )


@dataclass(slots=True, eq=False)
class _Work:
    """A result while a protocol is applied to it."""

    given: LabelMap
    body: Mask
    table: OrganTable
    labels: NDArray[np.uint8] = field(init=False)
    organs: dict[int, Organ] = field(init=False)
    regions: list[Region] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    recorded: list[dict[str, Any]] = field(default_factory=list)
    _is_own: bool = False
    _made: dict[str, Region] = field(default_factory=dict)
    _meant: dict[str, Organ] = field(
        default_factory=dict
    )  # of every derived structure, also of those not made

    def __post_init__(self) -> None:
        self.labels = self.given.labels
        # an outline that may set the limit of a dose calculation comes from the protocol, never from a model
        self.organs = {
            label: replace(organ, interpreted_type="CONTROL")
            if organ.interpreted_type == "EXTERNAL"
            else organ
            for label, organ in self.given.organs.items()
        }

    @property
    def _place(self) -> Place:
        return self.given.grid

    def organ(self, entry: OrganEntry) -> None:
        """One listed organ: split, tidied, named; left out where it is too small."""
        label = self._label(entry.organ)
        if label is None:
            self.recorded.append({"structure": entry.organ, "done": "no model looks for it"})
            return
        for own in self._split(label, entry.split) if entry.split else (label,):
            organ = self.organs[own]
            self.organs[own] = replace(
                organ,
                name=entry.name or organ.name,
                color=entry.color or organ.color,
                interpreted_type=entry.type or organ.interpreted_type,
            )
            done = self._tidied(own, entry.tidying) | self._refused_if_small(own, entry.min_ml)
            if entry.split:
                done["split_from"] = entry.organ
            self.recorded.append({"structure": organ.key, "name": self.organs[own].name} | done)

    def derived(self, entry: DerivedEntry) -> None:
        """One structure made from others."""
        organ = self._meant[entry.name] = self._organ_of(entry)
        sources = [self._source(name) for name in entry.source]
        found = [(mask, name) for mask, name in sources if mask is not None]
        missing = [name for mask, name in sources if mask is None]
        if not found or (missing and entry.derive == "intersection"):
            self._say(
                Level.INFO,
                "DERIVED_EMPTY",
                f"{entry.name}: {', '.join(missing)} not found; there is nothing to make it from.",
                organ.key,
            )
            row = {"structure": organ.key, "name": entry.name, "done": "nothing to make it from"}
            self.recorded.append(row)
            return
        mask, how, without = self._made_from(entry, [m for m, _ in found], [name for _, name in found])
        if entry.inside_body_mm is not None:
            mask = mask & shrink(self.body, self._place, Margin.even(entry.inside_body_mm))
            how += f", {entry.inside_body_mm:g} mm inside the body"
        if missing or without:
            text = f"{entry.name}: made without {', '.join(missing + without)}, not found."
            self._say(Level.WARNING, "DERIVED_INCOMPLETE", text, organ.key)
        if not mask.any():
            self._say(Level.INFO, "DERIVED_EMPTY", f"{entry.name}: nothing is left of it.", organ.key)
        region = Region.of(organ, mask, how)
        self._made[entry.name] = region
        self.regions.append(region)
        self._record(region, {"without": missing + without} if missing or without else {})

    def external(self, entry: External) -> None:
        """The outline of the patient."""
        body = self.table[_BODY]
        organ = replace(
            body,
            key=_EXTERNAL,
            name=entry.name,
            color=entry.color or body.color,
            interpreted_type="EXTERNAL",
        )
        region = Region.of(organ, self.body, "outline of the patient")
        self.regions.append(region)
        self._record(region)

    def drop_all_but(self, kept: set[str]) -> None:
        """Leave out organs that are not listed."""
        for label, organ in list(self.organs.items()):
            if organ.key not in kept:
                self._clear(label)
                del self.organs[label]
                self.recorded.append({"structure": organ.key, "done": "left out: not listed"})

    # ------------------------------------------------------------------ organs

    def _label(self, key: str) -> int | None:
        return next((label for label, organ in self.organs.items() if organ.key == key), None)

    def _box(self, label: int, margin: int = 0) -> Box | None:
        mask = np.equal(self.labels, label)
        return Box.around(mask, (0, margin, margin)) if mask.any() else None

    def _own_labels(self) -> NDArray[np.uint8]:
        """The labels to write to: a copy, made when it is first needed."""
        if not self._is_own:
            self.labels = self.labels.copy()
            self._is_own = True
        return self.labels

    def _clear(self, label: int) -> None:
        if (box := self._box(label)) is not None:
            part = self._own_labels()[box.slices]
            part[part == label] = 0

    def _tidied(self, label: int, how: Tidying) -> dict[str, Any]:
        """Tidy an organ in place; how many millilitres went and came."""
        box = None if how.is_nothing else self._box(label, _FILL_AROUND)
        if box is None:
            return {}
        before = np.equal(self.labels[box.slices], label)
        free = np.equal(self.labels[box.slices], 0)
        place = box.slices[0]
        slice_ml, heights = self._place.slice_ml[place], self._place.heights_mm[place]
        after = tidy(before, free, slice_ml, heights, how)
        part = self._own_labels()[box.slices]
        part[before & ~after] = 0
        part[after & ~before] = label
        removed, filled = (
            float(change.sum(axis=(1, 2)) @ slice_ml) for change in (before & ~after, after & ~before)
        )
        self._tell_tidied(self.organs[label], removed, filled, float(before.sum(axis=(1, 2)) @ slice_ml))
        return {"removed_ml": round(removed, 4), "filled_ml": round(filled, 4)}

    def _tell_tidied(self, organ: Organ, removed: float, filled: float, whole: float) -> None:
        if removed or filled:
            level = Level.WARNING if max(removed, filled) > _MUCH * whole else Level.INFO
            text = f"{organ.name}: {removed:.2f} ml removed and {filled:.2f} ml filled, as the protocol asks."
            self._say(level, "ORGAN_TIDIED", text, organ.key, max(removed, filled))

    def _refused_if_small(self, label: int, min_ml: float) -> dict[str, Any]:
        organ, box = self.organs[label], self._box(label)
        if not min_ml or box is None:
            return {}
        mask = np.equal(self.labels[box.slices], label)
        volume = float(mask.sum(axis=(1, 2)) @ self._place.slice_ml[box.slices[0]])
        if volume >= min_ml:
            return {}
        self._clear(label)
        text = (
            f"{organ.name}: {volume:.2f} ml are less than the {min_ml:g} ml of the protocol; it is left out."
        )
        self._say(Level.WARNING, "ORGAN_TOO_SMALL", text, organ.key, volume)
        return {"left_out_ml": round(volume, 4)}

    def _split(self, label: int, keys: Sequence[str]) -> tuple[int, ...]:
        """Divide an organ into left and right; their labels."""
        free = (number for number in range(1, 256) if number not in self.organs)
        left, right = (self._label(key) or next(free) for key in keys)
        del self.organs[label]
        self.organs[left], self.organs[right] = (self.table[key] for key in keys)
        mask = np.equal(self.labels, label)
        if mask.any():
            box = Box.around(mask)
            x_mm = _x_mm(self._place, box)
            on_left, on_right = split_sides(mask[box.slices], x_mm, _middle_mm(self._place, self.body))
            part = self._own_labels()[box.slices]
            part[on_left], part[on_right] = left, right
        return left, right

    # ------------------------------------------------------------------ structures made from others

    def _source(self, name: str) -> tuple[Mask | None, str]:
        """The mask of an organ or of a structure made before, None where it is empty, and its name."""
        if name in self._made:
            region = self._made[name]
            return (region.full(self.labels.shape) if region.mask.any() else None), name
        label = self._label(name)
        if label is None:
            return None, self._known(name).name
        mask = np.equal(self.labels, label)
        return (mask if mask.any() else None), self.organs[label].name

    def _organ_of(self, entry: DerivedEntry) -> Organ:
        """Name, colour, type and codes of a derived structure."""
        sources = [self._known(name) for name in entry.source]
        like = self.table[entry.like] if entry.like else sources[0]
        # left and right together are neither
        both = not entry.like and len({organ.side for organ in sources}) > 1
        return replace(
            like,
            key=entry.key,
            name=entry.name,
            color=entry.color or like.color,
            interpreted_type=entry.type or ("ORGAN" if entry.derive == "union" else "AVOIDANCE"),
            side=None if both else like.side,
        )

    def _known(self, name: str) -> Organ:
        """The organ or derived structure of a name, found or not."""
        if name in self._meant:
            return self._meant[name]
        label = self._label(name)
        return self.table[name] if label is None else self.organs[label]

    def _made_from(
        self, entry: DerivedEntry, masks: list[Mask], names: list[str]
    ) -> tuple[Mask, str, list[str]]:
        """A derived structure, how it was made, and what was to be taken away and not found."""
        place = self._place
        if entry.derive == "intersection":
            return np.logical_and.reduce(masks), " and ".join(names), []
        mask: Mask = np.logical_or.reduce(masks)
        said = " + ".join(names)
        margin = margin_of(entry.margin_mm)
        match entry.derive:
            case "margin":
                mask, said = grow(mask, place, margin), f"{said} + {margin}"
            case "shrink":
                mask, said = shrink(mask, place, margin), f"{said} - {margin}"
            case "ring":
                inner, outer = margin_of(entry.inner_mm), margin_of(entry.outer_mm)
                mask, said = ring(mask, place, inner, outer), f"{said}, ring from {inner} to {outer}"
            case "subtraction":
                return self._without(mask, said, entry, margin)
        return mask, said, []

    def _without(
        self, mask: Mask, said: str, entry: DerivedEntry, margin: Margin
    ) -> tuple[Mask, str, list[str]]:
        """What is left of a structure, how it was made, and what was not there to be taken away."""
        missing = []
        wide = f" (with {margin})" if any(margin.six) else ""
        for name in entry.minus:
            other, other_said = self._source(name)
            if other is None:
                missing.append(other_said)
                continue
            mask = mask & ~grow(other, self._place, margin)
            said += f" - {other_said}{wide}"
        return mask, said, missing

    def _record(self, region: Region, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        counts = region.mask.sum(axis=(1, 2))
        volume = round(float(counts @ self._place.slice_ml[region.box.slices[0]]), 3)
        organ = region.organ
        row = {"structure": organ.key, "name": organ.name, "made": region.how, "ml": volume}
        self.recorded.append(row | dict(more))

    def _say(self, level: Level, code: str, message: str, organ: str, value: float | None = None) -> None:
        self.findings.append(Finding(level=level, code=code, message=message, organ=organ, value=value))


def _x_steps_mm(place: Place, box: Box) -> tuple[FloatArray, FloatArray, FloatArray]:
    """LPS x in a box: of the first voxel of each slice, and what each row and each column adds."""
    _, down, across = place.axes
    row_mm, column_mm = place.pixel_spacing_mm
    starts = place.to_lps([(k, *box.start[1:]) for k in range(box.start[0], box.stop[0])])[:, 0]
    j, i = (np.arange(n, dtype=np.float64) for n in box.shape[1:])
    return starts, j * (row_mm * down[0]), i * (column_mm * across[0])


def _x_mm(place: Place, box: Box) -> FloatArray:
    """LPS x of every voxel of a box."""
    starts, rows, columns = _x_steps_mm(place, box)
    x_mm: FloatArray = starts[:, None, None] + rows[:, None] + columns
    return x_mm


def _middle_mm(place: Place, body: Mask) -> float:
    """LPS x of the middle of the patient: the mean of its voxels, counted by slice, row and column."""
    if not body.any():
        return 0.0
    box = Box.around(body)
    inside = body[box.slices]
    numbers = (inside.sum(axis=axes) for axes in ((1, 2), (0, 2), (0, 1)))
    steps = _x_steps_mm(place, box)
    return float(sum(count @ x for count, x in zip(numbers, steps, strict=True)) / inside.sum())
