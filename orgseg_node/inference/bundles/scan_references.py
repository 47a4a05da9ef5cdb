"""Reads what the training scans of bundles look like."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from orgseg_node.core.scan.reference import ScanReference
from orgseg_node.errors import BundleError, BundleInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundles

T = TypeVar("T")
REFERENCE: Final = "reference.json"
"""The file of a bundle that describes its training data; its part ``scan`` describes the scans."""


def scan_reference(bundle: ModelBundle) -> ScanReference | None:
    """What the training scans of a bundle look like; None if the bundle does not say it.

    Raises
    ------
    BundleInvalid
        If the description cannot be read.
    """
    return read_reference(bundle, lambda document: _scan_of(document.get("scan")))


def _scan_of(part: dict[str, Any] | None) -> ScanReference | None:
    return None if part is None else ScanReference.from_dict(part)


def read_reference(bundle: ModelBundle, parse: Callable[[dict[str, Any]], T | None]) -> T | None:
    """What is parsed from the reference of a bundle; None if the bundle has none.

    Parameters
    ----------
    bundle : the bundle
    parse : gets the content of the file

    Raises
    ------
    BundleInvalid
        If the reference cannot be read.
    """
    if REFERENCE not in bundle.manifest.files:
        return None
    try:
        return parse(json.loads((bundle.path / REFERENCE).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleInvalid(f"{REFERENCE} of '{bundle.manifest.name}' cannot be read: {error}.") from error


def scan_references(names: Sequence[str], folders: Sequence[Path]) -> dict[str, ScanReference]:
    """What the training scans of bundles look like, by the SHA-256 of the bundle.

    Bundles that cannot be opened are left out: who runs them reports it.

    Parameters
    ----------
    names : of the bundles
    folders : that are searched before those shipped with the node

    Raises
    ------
    BundleInvalid
        If a description cannot be read.
    """
    return references_of(names, folders, scan_reference)


def references_of(
    names: Sequence[str], folders: Sequence[Path], read: Callable[[ModelBundle], T | None]
) -> dict[str, T]:
    """What is read from each bundle that can be opened and has it, by the SHA-256 of the bundle.

    Parameters
    ----------
    names : of the bundles
    folders : that are searched before those shipped with the node
    read : reads a bundle; None where the bundle has nothing of it
    """
    found = {}
    for name in names:
        try:
            (bundle,) = open_bundles([name], folders)
        except BundleError:
            continue
        reference = read(bundle)
        if reference is not None:
            found[bundle.sha256] = reference
    return found
