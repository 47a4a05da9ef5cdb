"""Reads what bundles say of their training data: how the scans look, and how the organs look."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orgseg_node.core.anatomy.reference import AnatomyReference
from orgseg_node.core.scan.reference import ScanReference
from orgseg_node.errors import BundleError, BundleInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundles

REFERENCE: Final = "reference.json"
"""The file of a bundle that describes its training data; its part ``scan`` describes the scans."""
_ORGANS: Final = frozenset({"schema", "populations"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReference:
    """What a bundle says of its training data.

    Attributes
    ----------
    scan : how the scans look; None if the bundle does not say it
    anatomy : how the organs look; None if the bundle does not say it
    """

    scan: ScanReference | None = None
    anatomy: AnatomyReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What several bundles say of their training data, by the SHA-256 of the bundle.

    Attributes
    ----------
    scans : how the scans look, of bundles that say it
    anatomy : how the organs look, of bundles that say it
    """

    scans: Mapping[str, ScanReference] = field(default_factory=dict)
    anatomy: Mapping[str, AnatomyReference] = field(default_factory=dict)


def read_reference(bundle: ModelBundle) -> BundleReference:
    """What a bundle says of its training data; the file is read once.

    Raises
    ------
    BundleInvalid
        If the reference cannot be read.
    """
    if REFERENCE not in bundle.manifest.files:
        return BundleReference()
    try:
        return _parsed(json.loads((bundle.path / REFERENCE).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleInvalid(f"{REFERENCE} of '{bundle.manifest.name}' cannot be read: {error}.") from error


def _parsed(document: Mapping[str, Any]) -> BundleReference:
    scan = document.get("scan")
    return BundleReference(
        scan=None if scan is None else ScanReference.from_dict(scan),
        anatomy=AnatomyReference.from_dict(document) if _ORGANS & document.keys() else None,
    )


def open_references(names: Sequence[str], folders: Sequence[Path]) -> References:
    """What bundles say of their training data.

    Bundles that cannot be opened are left out: who runs them reports it.

    Parameters
    ----------
    names : of the bundles
    folders : that are searched before those shipped with the node

    Raises
    ------
    BundleInvalid
        If a reference cannot be read.
    """
    found = {}
    for name in names:
        try:
            (bundle,) = open_bundles([name], folders)
        except BundleError:
            continue
        found[bundle.sha256] = read_reference(bundle)
    return References(
        scans={sha256: each.scan for sha256, each in found.items() if each.scan is not None},
        anatomy={sha256: each.anatomy for sha256, each in found.items() if each.anatomy is not None},
    )
