"""Applying a protocol to a label map: names, tidying, splitting, and derived structures.

The organs remain a label map with one organ per voxel; each structure derived from them becomes a `Region`.
An empty protocol changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.contouring.derivation import derive
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.contouring.protocol_entries import DerivedEntry, External, OrganEntry
from orgseg_node.core.anatomy.plausibility import Judgement
from orgseg_node.core.checks import Finding, Grade, Level
from orgseg_node.core.geometry import Box, VoxelGeometry
from orgseg_node.core.margins import Margin, shrink
from orgseg_node.core.midline import lps_x_mm, middle_x_mm
from orgseg_node.core.organs import Organ, OrganTable
from orgseg_node.core.postprocess import postprocess, split_sides, without_far_pieces
from orgseg_node.core.regions import Region
from orgseg_node.core.volume import LabelMap, Mask

LEFT_OUT_BY_PERSON: Final = "LEFT OUT: by a person, before sending"
"""What the objects say of a structure that a person has left out."""

_MUCH: Final = 0.05  # fraction of an organ; tidying that changes more gives a warning
_FILL_MARGIN: Final = 1  # voxels around an organ that filling considers
_BODY: Final = "body"  # key of the body in the organ table
_FOLLOWS: Final = {
    "drop": "It is left out.",
    "hold": "The result is held.",
    "flag": "It is sent anyway, as the protocol asks.",
}
_EXTERNAL: Final = "external"  # key of the body contour as a structure; a model may find a body as well


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AppliedProtocol:
    """The result of applying a protocol.

    Attributes
    ----------
    label_map : the organs, with the names and colours of the protocol
    regions : structures derived from the organs
    order : keys of organs and regions in the order of the protocol
    findings : what a person should know
    recorded : what was done, one row for each structure, for report.json
    judgement : of the organs, before those that are left out were removed
    left_out : organs that were found, and left out since they are implausible
    removed : keys of the organs and regions that a person has left out
    """

    label_map: LabelMap
    regions: tuple[Region, ...]
    order: tuple[str, ...]
    findings: tuple[Finding, ...]
    recorded: tuple[dict[str, Any], ...]
    judgement: Judgement = field(default_factory=Judgement)
    left_out: tuple[Organ, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def warnings(self) -> dict[str, str]:
        """What a person should know of each organ, by key: that it was left out, or how it looks."""
        gone = {organ.key for organ in self.left_out}
        judged = {
            key: "LEFT OUT: implausible" if key in gone else f"LOOK AT IT: {grade}"
            for key, grade in self.judgement.grades.items()
        }
        return judged | dict.fromkeys(self.removed, LEFT_OUT_BY_PERSON)


def apply_protocol(
    protocol: Protocol,
    label_map: LabelMap,
    body: Mask,
    table: OrganTable,
    judge: Callable[[LabelMap], Judgement] = lambda _: Judgement(),
) -> AppliedProtocol:
    """Apply a protocol to what the networks found.

    Parameters
    ----------
    protocol : see `Protocol`
    label_map : result of the networks on the slices of the CT; not changed
    body : (K, J, I) bool, the patient on the same slices
    table : the organ table
    judge : judges the organs after they were tidied and before others are derived from them

    Raises
    ------
    ConfigError
        If the protocol names an organ that is not in the table.
    """
    protocol.check_organs(table)
    work = _ProtocolRun(label_map, body, table)
    if protocol.needed_organs is not None:
        work.drop_unlisted(set(protocol.needed_organs))  # now: no organ is tidied by what is not used
    for organ in protocol.organs:
        work.add_organ(organ)
    work.judge(judge, protocol)
    for derived in protocol.derived:
        work.add_derived(derived)
    if protocol.external is not None:
        work.add_external(protocol.external)
    if protocol.others == "drop":
        work.drop_unlisted({key for entry in protocol.organs for key in entry.keys})
    order = [(e.key,) if isinstance(e, DerivedEntry) else e.keys for e in protocol.structures]
    return AppliedProtocol(
        label_map=LabelMap(grid=label_map.grid, labels=work.labels, organs=work.organs),
        regions=tuple(work.regions),
        order=tuple(key for keys in order for key in keys),
        findings=tuple(work.findings),
        recorded=tuple(work.recorded),
        judgement=work.judgement,
        left_out=tuple(work.left_out),
    )


@dataclass(slots=True, eq=False)
class _ProtocolRun:
    """The state while a protocol is applied to a label map."""

    given: LabelMap
    body: Mask
    table: OrganTable
    labels: NDArray[np.uint8] = field(init=False)
    organs: dict[int, Organ] = field(init=False)
    regions: list[Region] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    recorded: list[dict[str, Any]] = field(default_factory=list)
    judgement: Judgement = field(default_factory=Judgement)
    left_out: list[Organ] = field(default_factory=list)
    _is_copy: bool = False
    _derived: dict[str, Region] = field(default_factory=dict)  # by name
    _derived_organs: dict[str, Organ] = field(default_factory=dict)  # by name, also of those that are empty

    def __post_init__(self) -> None:
        self.labels = self.given.labels
        # EXTERNAL may limit the dose calculation; it comes from the protocol, never from a model
        self.organs = {
            label: replace(organ, interpreted_type="CONTROL")
            if organ.interpreted_type == "EXTERNAL"
            else organ
            for label, organ in self.given.organs.items()
        }

    @property
    def _place(self) -> VoxelGeometry:
        return self.given.grid

    def add_organ(self, entry: OrganEntry) -> None:
        """Split, name and postprocess one listed organ; remove it if it is too small."""
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
            done = self._tidy(own, entry) | self._drop_if_small(own, entry.min_ml)
            if entry.split:
                done["split_from"] = entry.organ
            self.recorded.append({"structure": organ.key, "name": self.organs[own].name} | done)

    def judge(self, judge: Callable[[LabelMap], Judgement], protocol: Protocol) -> None:
        """Judge the organs that are sent, and do with the implausible ones what the protocol says."""
        listed = {key for entry in protocol.organs for key in entry.keys}
        listed |= {key for entry in protocol.derived for key in (*entry.source, *entry.minus)}
        sent = {n: o for n, o in self.organs.items() if protocol.others == "keep" or o.key in listed}
        judged = judge(LabelMap(grid=self.given.grid, labels=self.labels, organs=sent))
        consequences = {
            key: protocol.implausible_of(key)
            for key, grade in judged.grades.items()
            if grade is Grade.IMPLAUSIBLE
        }
        for key, consequence in consequences.items():
            label = self._label(key)
            if consequence == "drop" and label is not None:
                self.left_out.append(self.organs[label])
                self._clear(label)
                self.recorded.append({"structure": key, "done": "left out: implausible"})
        self.judgement = replace(
            judged, findings=tuple(_with_consequence(f, consequences) for f in judged.findings)
        )

    def add_derived(self, entry: DerivedEntry) -> None:
        """Make one structure from others."""
        organ = self._derived_organs[entry.name] = self._organ_of(entry)
        sources = [self._source(name) for name in entry.source]
        found = [(mask, name) for mask, name in sources if mask is not None]
        missing = [name for mask, name in sources if mask is None]
        if not found or (missing and entry.derive == "intersection"):
            text = f"{entry.name}: {', '.join(missing)} not found; there is nothing to make it from."
            self._add_finding(Level.INFO, "DERIVED_EMPTY", text, organ.key)
            row = {"structure": organ.key, "name": entry.name, "done": "nothing to make it from"}
            self.recorded.append(row)
            return
        minus = [self._source(name) for name in entry.minus]
        mask, how, without = derive(entry, found, minus, self._place)
        if entry.inside_body_mm is not None:
            mask = mask & shrink(self.body, self._place, Margin.uniform(entry.inside_body_mm))
            how += f", {entry.inside_body_mm:g} mm inside the body"
        if missing or without:
            text = f"{entry.name}: made without {', '.join(missing + without)}, not found or left out."
            self._add_finding(Level.WARNING, "DERIVED_INCOMPLETE", text, organ.key)
        if not mask.any():
            self._add_finding(Level.INFO, "DERIVED_EMPTY", f"{entry.name}: nothing is left of it.", organ.key)
        region = Region.of(organ, mask, how)
        self._derived[entry.name] = region
        self.regions.append(region)
        self._record(region, {"without": missing + without} if missing or without else {})

    def add_external(self, entry: External) -> None:
        """Add the body contour."""
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

    def drop_unlisted(self, listed: set[str]) -> None:
        """Remove the organs that the protocol does not list."""
        for label, organ in list(self.organs.items()):
            if organ.key not in listed:
                self._clear(label)
                del self.organs[label]
                self.recorded.append({"structure": organ.key, "done": "left out: not listed"})

    # ------------------------------------------------------------------ organs

    def _label(self, key: str) -> int | None:
        return next((label for label, organ in self.organs.items() if organ.key == key), None)

    def _box(self, label: int, margin: int = 0) -> Box | None:
        mask = np.equal(self.labels, label)
        return Box.around(mask, (0, margin, margin)) if mask.any() else None

    def _writable_labels(self) -> NDArray[np.uint8]:
        """The labels as a copy, which is made at the first call."""
        if not self._is_copy:
            self.labels = self.labels.copy()
            self._is_copy = True
        return self.labels

    def _clear(self, label: int) -> None:
        if (box := self._box(label)) is not None:
            part = self._writable_labels()[box.slices]
            part[part == label] = 0

    def _tidy(self, label: int, entry: OrganEntry) -> dict[str, Any]:
        """Tidy an organ in place and return the volumes removed and filled."""
        how, farthest_mm = entry.tidying, entry.max_distance_mm
        idle = how.has_no_effect and farthest_mm is None
        box = None if idle else self._box(label, _FILL_MARGIN)
        if box is None:
            return {}
        before = np.equal(self.labels[box.slices], label)
        free = np.equal(self.labels[box.slices], 0)
        place = box.slices[0]
        slice_ml, heights = self._place.slice_ml[place], self._place.heights_mm[place]
        near = before
        if farthest_mm is not None:
            gap = float(np.median(np.diff(heights))) if heights.size > 1 else 1.0
            spacing = (gap, *self._place.pixel_spacing_mm)
            near = without_far_pieces(before, slice_ml, spacing, farthest_mm)
        after = postprocess(near, free, slice_ml, heights, how)
        part = self._writable_labels()[box.slices]
        part[before & ~after] = 0
        part[after & ~before] = label
        removed, filled = (
            float(change.sum(axis=(1, 2)) @ slice_ml) for change in (before & ~after, after & ~before)
        )
        self._report_tidied(self.organs[label], removed, filled, float(before.sum(axis=(1, 2)) @ slice_ml))
        return {"removed_ml": round(removed, 4), "filled_ml": round(filled, 4)}

    def _report_tidied(self, organ: Organ, removed: float, filled: float, whole: float) -> None:
        if removed or filled:
            level = Level.WARNING if max(removed, filled) > _MUCH * whole else Level.INFO
            text = f"{organ.name}: {removed:.2f} ml removed and {filled:.2f} ml filled, as the protocol asks."
            self._add_finding(level, "ORGAN_TIDIED", text, organ.key, max(removed, filled))

    def _drop_if_small(self, label: int, min_ml: float) -> dict[str, Any]:
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
        self._add_finding(Level.WARNING, "ORGAN_TOO_SMALL", text, organ.key, volume)
        return {"left_out_ml": round(volume, 4)}

    def _split(self, label: int, keys: Sequence[str]) -> tuple[int, ...]:
        """Divide an organ into left and right and return their labels."""
        free = (number for number in range(1, 256) if number not in self.organs)
        left, right = (self._label(key) or next(free) for key in keys)
        del self.organs[label]
        self.organs[left], self.organs[right] = (self.table[key] for key in keys)
        mask = np.equal(self.labels, label)
        if mask.any():
            box = Box.around(mask)
            x_mm = lps_x_mm(self._place, box)
            on_left, on_right = split_sides(mask[box.slices], x_mm, middle_x_mm(self._place, self.body))
            part = self._writable_labels()[box.slices]
            part[on_left], part[on_right] = left, right
        return left, right

    # ------------------------------------------------------------------ derived structures

    def _source(self, name: str) -> tuple[Mask | None, str]:
        """Mask (None if empty) and name of an organ or of a structure that was derived before."""
        if name in self._derived:
            region = self._derived[name]
            return (region.full(self.labels.shape) if region.mask.any() else None), name
        label = self._label(name)
        if label is None:
            return None, self._organ_named(name).name
        mask = np.equal(self.labels, label)
        return (mask if mask.any() else None), self.organs[label].name

    def _organ_of(self, entry: DerivedEntry) -> Organ:
        """Name, colour, type and codes of a derived structure."""
        sources = [self._organ_named(name) for name in entry.source]
        like = self.table[entry.like] if entry.like else sources[0]
        # a union of left and right has no side
        both = not entry.like and len({organ.side for organ in sources}) > 1
        return replace(
            like,
            key=entry.key,
            name=entry.name,
            color=entry.color or like.color,
            interpreted_type=entry.type or ("ORGAN" if entry.derive == "union" else "AVOIDANCE"),
            side=None if both else like.side,
        )

    def _organ_named(self, name: str) -> Organ:
        """The organ or derived structure with a name, also if it was not found."""
        if name in self._derived_organs:
            return self._derived_organs[name]
        label = self._label(name)
        return self.table[name] if label is None else self.organs[label]

    def _record(self, region: Region, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        counts = region.mask.sum(axis=(1, 2))
        volume = round(float(counts @ self._place.slice_ml[region.box.slices[0]]), 3)
        organ = region.organ
        row = {"structure": organ.key, "name": organ.name, "made": region.derivation, "ml": volume}
        self.recorded.append(row | dict(more))

    def _add_finding(
        self, level: Level, code: str, message: str, organ: str, value: float | None = None
    ) -> None:
        self.findings.append(Finding(level=level, code=code, message=message, organ=organ, value=value))


def _with_consequence(finding: Finding, consequences: Mapping[str, str]) -> Finding:
    """A finding of an implausible organ with what follows from it."""
    consequence = consequences.get(finding.organ or "")
    if finding.grade is not Grade.IMPLAUSIBLE or consequence is None:
        return finding
    level = Level.ERROR if consequence == "hold" else finding.level
    return replace(finding, level=level, message=f"{finding.message} {_FOLLOWS[consequence]}")
