"""Run a bundle on a CT by one method: ``python -m benchmarks.inference.run_one REQUEST``, a JSON file.

Writes the labels and a JSON file with seconds of each stage, CPU seconds and peak memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import OrganTable, load_organs
from orgseg_node.core.volume import Volume
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import Backend, InferenceSettings, Prediction, Predictor
from orgseg_node.shipped import shipped_config

_MARGIN_VOXELS = 20  # TotalSegmentator's margin between its three parts, in voxels of the network's grid


def main(request: dict[str, Any]) -> None:
    """Run one request."""
    import torch  # noqa: PLC0415  # imported before the time starts

    volume = _volume(request)
    mask = (
        np.load(request["body"], mmap_mode="r")
        if request["body"]
        else np.broadcast_to(np.True_, volume.grid.shape)
    )
    body = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=300.0, findings=())
    before = _rss_mb()
    started, cpu = time.perf_counter(), time.process_time()
    organs = load_organs(shipped_config("organs.toml"))
    bundle = open_bundle(Path(request["bundle"]))
    settings = InferenceSettings(**request["settings"])
    if settings.backend == Backend.COMPILED:
        predictor = _compiled(bundle, organs, settings)
    else:
        predictor = load_predictor(bundle, organs, settings)
    steps: dict[str, float] = {}
    if request["parts"]:
        labels = _in_parts(predictor, volume, body, request, steps)
    else:
        found = predictor.predict(volume, body, lambda *_: None)
        labels = _add_timings(found, steps)
    cuda = torch.cuda.is_available() and request["settings"].get("device") != "cpu"
    facts = {
        "seconds": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": _peak_mb(),
        "before_mb": before,
        "gpu_mb": torch.cuda.max_memory_reserved() / 2**20 if cuda else 0.0,
        "stages": steps,
        "device": predictor.device,  # type: ignore[attr-defined]
    }
    np.save(request["labels"], labels)
    Path(request["facts"]).write_text(json.dumps(facts))


def _compiled(bundle: ModelBundle, organs: OrganTable, settings: InferenceSettings) -> Predictor:
    """A bundle as it would run after its calibration."""
    from orgseg_node.inference.backends.compiled import supported_precisions  # noqa: PLC0415  # imports torch
    from orgseg_node.inference.backends.context import choose_device  # noqa: PLC0415
    from orgseg_node.inference.backends.streaming import StreamingPredictor  # noqa: PLC0415

    device = choose_device(settings.device)
    precision = supported_precisions(device)[0]
    return StreamingPredictor(bundle, organs, settings, device, precision=precision)


def _volume(request: dict[str, Any]) -> Volume:
    hu: NDArray[np.int16] = np.load(request["ct"], mmap_mode="r")
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    k, j, i = request["spacing_mm"]
    return Volume(grid=Grid(shape=shape, spacing_mm=(k, j, i), origin_mm=(0.0, 0.0, 0.0)), hu=hu)


def _in_parts(
    predictor: Predictor, volume: Volume, body: Body, request: dict[str, Any], steps: dict[str, float]
) -> NDArray[np.uint8]:
    """TotalSegmentator's method to bound memory: three parts along z with a margin, each contoured alone."""
    slices, parts = volume.grid.shape[0], request["parts"]
    margin = round(_MARGIN_VOXELS * request["working_mm"] / volume.grid.spacing_mm[0])
    labels = np.zeros(volume.grid.shape, dtype=np.uint8)
    edges = [slices * n // parts for n in range(parts + 1)]
    for start, stop in pairwise(edges):
        low, high = max(0, start - margin), min(slices, stop + margin)
        box = Box(start=(low, 0, 0), stop=(high, *volume.grid.shape[1:]))
        mask = body.mask[box.slices]
        part = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=300.0, findings=())
        found = _add_timings(predictor.predict(volume.crop(box), part, lambda *_: None), steps)
        labels[start:stop] = found[start - low : stop - low]
    return labels


def _add_timings(found: Prediction, steps: dict[str, float]) -> NDArray[np.uint8]:
    for step, seconds in found.timings_s.items():
        steps[step] = steps.get(step, 0.0) + seconds
    return found.label_map.labels


def _peak_mb() -> float:
    """Peak memory of this process; getrusage would also count the memory of its parent before exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
