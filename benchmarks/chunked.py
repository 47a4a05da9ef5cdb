"""The study's chunked inference beside the whole image: Dice per organ, time and peak memory.

Both run the starter bundle on the same CT, by default the demonstration CT, each in a process of its own, so
that the memory is its own.
Run: ``python benchmarks/chunked.py [CT_DIR] [--chunk-mm 150] [--bundle starter-hn]``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from orgseg_node.core.body import find_body
from orgseg_node.core.metrics import dice
from orgseg_node.core.organs import load_organs
from orgseg_node.dicom.reader import read_volume
from orgseg_node.dicom.series import read_series
from orgseg_node.inference.bundle import find_bundle
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.shipped import shipped_bundles, shipped_config, shipped_demo


def segment(folder: Path, bundle: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Label a CT, with seconds and peak memory of this process."""
    from orgseg_node.inference.loading import load_predictor  # noqa: PLC0415 - torch belongs to this process only

    volume = read_volume(read_series(folder))
    body = find_body(volume)
    organs = load_organs(shipped_config("organs.toml"))
    predictor = load_predictor(
        find_bundle(bundle, [shipped_bundles()]), organs, InferenceSettings(**settings)
    )
    started = time.perf_counter()
    found = predictor.predict(volume, body, lambda _part, _what: None)
    return {
        "labels": found.label_map.labels,
        "names": {label: organ.name for label, organ in found.label_map.organs.items()},
        "seconds": time.perf_counter() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "method": found.method,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=shipped_demo() / "ct")
    parser.add_argument("--chunk-mm", type=float, default=150.0)
    parser.add_argument("--bundle", default="starter-hn")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = {"whole": {"method": "whole"}}
    for overlap in (0.0, 50.0):
        name = f"chunked, {overlap:.0f} mm overlap"
        runs[name] = {"method": "chunked", "chunk_mm": options.chunk_mm, "overlap_mm": overlap}
    context = multiprocessing.get_context("spawn")
    results = {}
    for name, settings in runs.items():
        with context.Pool(1) as pool:
            results[name] = pool.apply(segment, (options.folder, options.bundle, settings))
    whole = results["whole"]
    table: dict[str, dict[str, float]] = {}
    size = " x ".join(map(str, whole["labels"].shape))
    print(f"{options.folder.name}: {size} voxels, chunks of {options.chunk_mm:g} mm")
    for name, result in results.items():
        agreement = {
            organ: dice(result["labels"] == label, whole["labels"] == label)
            for label, organ in whole["names"].items()
            if np.any(whole["labels"] == label)
        }
        table[name] = agreement
        print(
            f"\n{name}: {result['seconds']:.1f} s ({result['seconds'] / whole['seconds']:.2f} x whole), "
            f"{result['peak_mb']:.0f} MB ({result['peak_mb'] / whole['peak_mb']:.2f} x whole)"
        )
        for organ, value in agreement.items():
            print(f"  {organ:16s} Dice with whole {value:.4f}")
        print(f"  {'mean':16s} {statistics.mean(agreement.values()):20.4f}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
