"""The bundles that a command uses."""

from __future__ import annotations

from collections.abc import Sequence

from orgseg_node.errors import UnknownBundle
from orgseg_node.shipped import bundle_folders, shipped_bundles


def choose_bundles(names: Sequence[str] | None) -> list[str]:
    """The named bundles; without names, the only imported one, or else the only one that comes with the node.

    Raises
    ------
    UnknownBundle
        If no bundle is named and there is none, or there are several.
    """
    from orgseg_node.inference.bundles.bundle import list_bundles  # noqa: PLC0415  # quick start of other commands

    if names:
        return list(names)
    there = list_bundles(bundle_folders())
    own = [bundle for bundle in there if bundle.path.parent != shipped_bundles()]
    found = sorted(bundle.manifest.name for bundle in own or there)
    if len(found) != 1:
        raise UnknownBundle(f"Name one with --bundle; there are: {', '.join(found) or 'none'}.")
    return found
