"""A bundle on disk without a network in it, for everything that is done without torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from orgseg_node.inference.bundles.bundle import ModelBundle, file_sha256, open_bundle
from orgseg_node.inference.bundles.manifest import MANIFEST, Manifest, Part, render_manifest

_FILES = {
    "card.md": "# A card\n",
    "parts/main/plans.json": "{}",
    "parts/main/dataset.json": "{}",
    "parts/main/fold_0.safetensors": "weights",
}


def a_manifest(**changes: Any) -> Manifest:
    """A good manifest, with changes."""
    good = Manifest(
        name="paper-bundle",
        version="1.0.0",
        title="A bundle of paper",
        intended_use="tests only",
        trained_on="nothing",
        licence="Apache-2.0",
        parts=(
            Part(
                folder="parts/main",
                configuration="3d_fullres",
                folds=("0",),
                labels={1: "spleen", 2: "liver"},
                priorities={"spleen": 0.9},
            ),
        ),
        files=dict.fromkeys(_FILES, "0" * 64),
    )
    return replace(good, **changes)


def write_bundle(folder: Path, **changes: Any) -> ModelBundle:
    """Write a bundle whose files are there and whose hashes are right."""
    for name, content in _FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    files = {name: file_sha256(folder / name) for name in _FILES}
    (folder / MANIFEST).write_bytes(render_manifest(a_manifest(files=files, **changes)))
    return open_bundle(folder)
