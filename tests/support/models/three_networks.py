"""The description of a bundle of three networks, one for five organs and two for one organ each."""

from __future__ import annotations

from dataclasses import replace

from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle

_LABELS = {
    "parts/common": ("brainstem", "spinal_cord", "parotid_right", "parotid_left", "mandible"),
    "parts/larynx": ("larynx",),
    "parts/esophagus": ("esophagus",),
}


def three_networks() -> ModelBundle:
    """A bundle like the starter, with other networks, whose files are not there."""
    starter = find_bundle("starter-hn", [])
    first = starter.manifest.parts[0]
    parts = tuple(
        replace(first, folder=folder, labels=dict(enumerate(organs, 1)), priorities={})
        for folder, organs in _LABELS.items()
    )
    return replace(starter, manifest=replace(starter.manifest, parts=parts))
