"""One bundle on one CT: without guide, with guide, and with a guide that is spoilt on purpose."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.qa.goals import Goal
from orgseg_node.core.body import Body, find_body
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.backends.guided_run import GuidedRun
from orgseg_node.inference.backends.streaming import StreamingPredictor
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.manifest import Guide
from orgseg_node.inference.bundles.tables.guided_calibration import MIN_GUIDED_DICE
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.predictor import Device, InferenceSettings, Prediction
from orgseg_node.organ_table import organ_table

_SETTINGS = InferenceSettings(device=Device.CPU, skip_outside_body=False, guided=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuidedCase:
    """A bundle with a guide, and a CT.

    Attributes
    ----------
    name : for people
    volume : the CT
    bundle : single-organ networks with a guide
    layouts : of tiles to measure, the cheapest first; see `GuidedRun`
    margin_mm : see `GuidedRun`
    most : largest time, guide included, in times of one network on the whole CT
    """

    name: str
    volume: Volume
    bundle: ModelBundle
    layouts: tuple[Layout, ...]
    margin_mm: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """A run and its CPU seconds without loading the weights."""

    found: Prediction
    cpu_s: float

    @property
    def tiles(self) -> int:
        """Tiles of the networks that were led, without those of the guide."""
        return sum(row.tiles for row in self.found.guided)


def compare(case: GuidedCase) -> list[Goal]:
    """Run a case, print what was measured, and return its goals.

    As in the calibration, the goals are those of the cheapest layout of tiles that changes no organ, or of
    the last one if each changes one.
    """
    shape = " x ".join(map(str, case.volume.grid.shape))
    networks = len(case.bundle.manifest.parts)
    print(f"\n=== {case.name}: {networks} networks on {shape} voxels ===", flush=True)
    body = find_body(case.volume)
    unguided = _predictor(case.bundle, None)
    _run(unguided, case, body)  # loads the weights
    free = _run(unguided, case, body)
    one = free.cpu_s / networks
    print(f"unguided  {free.cpu_s:8.1f} s of CPU; one network {one:.1f} s")
    for layout in case.layouts:
        run = GuidedRun(layout=layout, margin_mm=case.margin_mm)
        led = _predictor(case.bundle, run)
        _run(led, case, body)  # loads the weights
        guided = _run(led, case, body)
        ratio = guided.cpu_s / one
        whole_tiles = sum(row.whole_tiles for row in guided.found.guided)
        print(
            f"guided, tiles {layout}: {guided.cpu_s:.1f} s of CPU ({ratio:.2f} x one network, "
            f"{guided.cpu_s / free.cpu_s:.3f} x unguided); {guided.tiles} tiles beside the guide's, unguided "
            f"{whole_tiles}; of {_wall(guided.found):.1f} s the guide alone "
            f"{guided.found.timings_s['guide']:.1f} s"
        )
        lowest = _print_organs(guided.found, free.found)
        if lowest >= MIN_GUIDED_DICE:
            break
    goals = [
        Goal(
            text=f"{case.name}: time guided (tiles {layout}), in times of one network",
            value=ratio,
            limit=case.most,
            at_most=True,
        ),
        Goal(text=f"{case.name}: lowest Dice with unguided", value=lowest, limit=MIN_GUIDED_DICE),
    ]
    for how, guide in _spoilt(case.bundle.manifest.guide).items():
        spoilt = replace(case.bundle, manifest=replace(case.bundle.manifest, guide=guide))
        print(f"guide spoilt: {how}")
        found = _run(_predictor(spoilt, run), case, body)
        print(f"          {found.cpu_s:8.1f} s of CPU, {found.tiles} tiles")
        lowest = _print_organs(found.found, free.found)
        text = f"{case.name}: lowest Dice with unguided, guide spoilt ({how})"
        goals.append(Goal(text=text, value=lowest, limit=MIN_GUIDED_DICE))
    return goals


def _predictor(bundle: ModelBundle, run: GuidedRun | None) -> StreamingPredictor:
    return StreamingPredictor(bundle, organ_table(), _SETTINGS, torch.device("cpu"), guided=run)


def _run(predictor: StreamingPredictor, case: GuidedCase, body: Body) -> _Run:
    begun = time.process_time()
    found = predictor.predict(case.volume, body, lambda *_: None)
    return _Run(found=found, cpu_s=time.process_time() - begun - found.timings_s["load"])


def _wall(found: Prediction) -> float:
    return sum(seconds for step, seconds in found.timings_s.items() if step not in {"load", "network"})


def _print_organs(found: Prediction, free: Prediction) -> float:
    """Print a line for each organ; the lowest Dice."""
    a, b = found.label_map, free.label_map
    rows = {key: row for row in found.guided for key in row.organs}
    lowest = 1.0
    for number, organ in b.organs.items():
        dice, ml = _dice(a, b, number)
        lowest = min(lowest, dice)
        row = rows[organ.key]
        print(
            f"  {organ.key:28s} Dice {dice:.4f}, {ml:7.1f} ml, {row.tiles} of {row.whole_tiles} tiles, "
            f"{row.outcome}"
        )
    differ = int(np.count_nonzero(a.labels != b.labels))
    print(f"  {differ} of {a.labels.size} voxels differ; lowest Dice {lowest:.4f}", flush=True)
    return lowest


def _dice(found: LabelMap, free: LabelMap, number: int) -> tuple[float, float]:
    a, b = found.labels == number, free.labels == number
    total = int(a.sum()) + int(b.sum())
    grid = free.grid
    ml = float(np.prod(grid.spacing_mm)) / 1000 if hasattr(grid, "spacing_mm") else 0.0
    return (2 * int((a & b).sum()) / total if total else 1.0), int(b.sum()) * ml


def _spoilt(guide: Guide | None) -> dict[str, Guide]:
    """Guides that exchange the names of their organs, and that do not find the first organ."""
    if guide is None:
        return {}
    organs = list(guide.organs)
    moved = dict(zip(organs, [*organs[1:], organs[0]], strict=True))
    exchanged = [
        replace(part, labels={n: moved[key] for n, key in part.labels.items()}, priorities={})
        for part in guide.parts
    ]
    missing = [
        replace(part, labels={n: key for n, key in part.labels.items() if key != organs[0]}, priorities={})
        for part in guide.parts
    ]
    return {
        "names exchanged": replace(guide, parts=tuple(exchanged)),
        f"{organs[0]} not found": replace(guide, parts=tuple(part for part in missing if part.labels)),
    }
