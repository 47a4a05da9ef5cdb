"""One bundle on one CT: without guide, with one, with a spoilt one, and one network for all organs alone."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.qa.goals import Goal
from orgseg_node.core.anatomy.possible import is_crumb
from orgseg_node.core.body import Body, find_body
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.inference.backends.guided.guide import GuidedRun
from orgseg_node.inference.backends.streaming import StreamingPredictor
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.manifest import Guide
from orgseg_node.inference.bundles.tables.guided_calibration import MIN_GUIDED_DICE
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.predictor import Device, InferenceSettings, Prediction
from orgseg_node.organ_table import organ_table

NOT_LOST: float = 0.85
"""Dice with the unguided run from which on an organ is the same organ, with a surface that differs."""

_SETTINGS = InferenceSettings(device=Device.CPU, skip_outside_body=False, guided=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuidedCase:
    """A bundle with a guide, and a CT.

    Attributes
    ----------
    name : for people
    volume : the CT
    bundle : single-organ networks with a guide
    together : one network that finds the organs at once, in a bundle of its own
    layouts : of tiles to measure, the cheapest first; see `GuidedRun`
    margin_mm, sparse, suspicion : see `GuidedRun`
    most : largest time, guide included, in times of one network on the whole CT
    requested : number of organs of a protocol that asks for a part of them; 0 to measure none
    """

    name: str
    volume: Volume
    bundle: ModelBundle
    together: ModelBundle
    layouts: tuple[Layout, ...]
    margin_mm: float
    sparse: bool
    suspicion: float | None
    most: float
    requested: int = 0

    def run(self, layout: Layout) -> GuidedRun:
        """How its networks are run with a layout of tiles."""
        return GuidedRun(
            layout=layout,
            margin_mm=self.margin_mm,
            sparse=self.sparse,
            suspicion=self.suspicion,
            explained=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """A run and its CPU seconds without loading the weights."""

    found: Prediction
    cpu_s: float


def compare(case: GuidedCase) -> list[Goal]:
    """Run a case, print what was measured, and return its goals, those of time for the first layout."""
    shape = " x ".join(map(str, case.volume.grid.shape))
    networks = len(case.bundle.manifest.parts)
    print(f"\n=== {case.name}: {networks} networks on {shape} voxels ===", flush=True)
    body = find_body(case.volume)
    one = _run(_predictor(case.together, None), case, body)
    print(f"one network for all organs: {one.cpu_s:8.1f} s of CPU, {one.found.tiles} tiles", flush=True)
    free = _run(_predictor(case.bundle, None), case, body)
    print(
        f"one for each, unguided:     {free.cpu_s:8.1f} s of CPU, {free.found.tiles} tiles; "
        f"{free.cpu_s / one.cpu_s:.2f} x one network",
        flush=True,
    )
    goals = _compare_subset(case, free, body) if case.requested else []
    timed = False
    for layout in case.layouts:
        run = case.run(layout)
        guided = _run(_predictor(case.bundle, run), case, body)
        led = sum(row.tiles for row in guided.found.guided)
        print(
            f"guided, tiles {layout + ':':14s} {guided.cpu_s:8.1f} s of CPU, {led} tiles and "
            f"{guided.found.tiles - led} of the guide; {guided.cpu_s / one.cpu_s:.2f} x one network, "
            f"{guided.cpu_s / free.cpu_s:.3f} x unguided"
        )
        lowest = _print_organs(guided.found, free.found)
        same = "enough" if lowest >= MIN_GUIDED_DICE else "not enough"
        print(f"  {same} for a calibration without clinical contours, which asks for {MIN_GUIDED_DICE}")
        text = f"{case.name}: time guided (tiles {layout}), in times of one network"
        if not timed:
            timed = True
            goals.append(Goal(text=text, value=guided.cpu_s / one.cpu_s, limit=case.most, at_most=True))
        goals.append(_not_lost(case, f"tiles {layout}", lowest))
    run = case.run(case.layouts[0])
    for how, guide in _spoilt(case.bundle.manifest.guide).items():
        spoilt = replace(case.bundle, manifest=replace(case.bundle.manifest, guide=guide))
        found = _run(_predictor(spoilt, run), case, body)
        print(f"guide spoilt ({how}): {found.cpu_s:.1f} s of CPU, {found.found.tiles} tiles")
        goals.append(_not_lost(case, f"guide spoilt, {how}", _print_organs(found.found, free.found)))
    return goals


def _compare_subset(case: GuidedCase, full: _Run, body: Body) -> list[Goal]:
    """Run the bundle for some of its organs, unguided; their voxels must be those of the full run."""
    organs = case.bundle.manifest.organs
    keys = organs[:: max(len(organs) // case.requested, 1)][: case.requested]
    part = _run(_predictor(case.bundle, None, keys), case, body)
    differ = sum(
        int(np.count_nonzero(_mask(part.found.label_map, key) != _mask(full.found.label_map, key)))
        for key in keys
    )
    print(
        f"for {', '.join(keys)} only:  {part.cpu_s:8.1f} s of CPU, {part.found.tiles} tiles; "
        f"{part.cpu_s / full.cpu_s:.3f} x all organs; {differ} voxels of these organs differ",
        flush=True,
    )
    text = f"{case.name}: {len(keys)} of {len(organs)} organs requested"
    return [
        Goal(text=f"{text}, voxels of them that differ", value=differ, limit=0, at_most=True),
    ]


def _not_lost(case: GuidedCase, what: str, lowest: float) -> Goal:
    return Goal(text=f"{case.name}: no organ lost ({what}), lowest Dice", value=lowest, limit=NOT_LOST)


def _predictor(
    bundle: ModelBundle, run: GuidedRun | None, requested: Collection[str] | None = None
) -> StreamingPredictor:
    return StreamingPredictor(
        bundle, organ_table(), _SETTINGS, torch.device("cpu"), requested=requested, guided=run
    )


def _run(predictor: StreamingPredictor, case: GuidedCase, body: Body) -> _Run:
    """Load the weights, then run: what a node does that keeps the networks between jobs."""
    predictor.load_networks()
    begun = time.process_time()
    found = predictor.predict(case.volume, body, lambda *_: None)
    return _Run(found=found, cpu_s=time.process_time() - begun)


def _print_organs(found: Prediction, free: Prediction) -> float:
    """Print a line for each organ; the lowest Dice of those of which one run found more than a crumb."""
    a, b = found.label_map, free.label_map
    rows = {key: row for row in found.guided for key in row.organs}
    volumes = b.volumes_ml()
    guided_volumes = {a.organs[number].key: ml for number, ml in a.volumes_ml().items()}
    lowest = 1.0
    for number, organ in b.organs.items():
        dice = _dice(a, b, organ.key)
        if not all(is_crumb(ml, organ.volume_ml) for ml in (volumes[number], guided_volumes[organ.key])):
            lowest = min(lowest, dice)
        row = rows[organ.key]
        print(
            f"  {organ.key:28s} Dice {dice:.4f}, {volumes[number]:7.1f} ml, {row.tiles} of "
            f"{row.whole_tiles} tiles, {row.outcome}{f'; {row.sparse}' if row.sparse else ''}"
        )
    differ = int(np.count_nonzero(a.labels != b.labels))
    print(f"  {differ} of {a.labels.size} voxels differ; lowest Dice {lowest:.4f}", flush=True)
    return lowest


def _mask(label_map: LabelMap, key: str) -> Mask:
    number = next(number for number, organ in label_map.organs.items() if organ.key == key)
    mask: Mask = label_map.labels == number
    return mask


def _dice(found: LabelMap, free: LabelMap, key: str) -> float:
    a, b = _mask(found, key), _mask(free, key)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def _spoilt(guide: Guide | None) -> dict[str, Guide]:
    """Guides that exchange the names of all or of two of their organs, and that do not know the first."""
    if guide is None:
        return {}
    organs = list(guide.organs)
    first, last = organs[0], organs[-1]
    return {
        "all names exchanged": _renamed(guide, dict(zip(organs, [*organs[1:], first], strict=True))),
        f"{first} and {last} exchanged": _renamed(
            guide, dict(zip(organs, organs, strict=True)) | {first: last, last: first}
        ),
        f"{first} not known": _renamed(guide, {key: key for key in organs[1:]}),
    }


def _renamed(guide: Guide, names: Mapping[str, str]) -> Guide:
    """A guide with other organ keys; it does not know those that have no new one."""
    parts = [
        replace(part, labels={n: names[key] for n, key in part.labels.items() if key in names}, priorities={})
        for part in guide.parts
    ]
    return replace(guide, parts=tuple(part for part in parts if part.labels))
