"""Aliases: ``head-neck@live`` in a configuration stands for the bundle of the family that is live.

A job follows an alias once, when it is made, and keeps the bundle and its hash: it does not see a promotion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orgseg_node.errors import BundleReplaced, NeverStarted, NoLiveVersion
from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.models.version_rows import live_version
from orgseg_node.node.store.database import Database

_LIVE: Final = "@live"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenBundle:
    """A bundle that a job uses.

    Attributes
    ----------
    name : of the bundle
    sha256 : its hash if an alias was followed, so that it must be this very version; otherwise empty
    """

    name: str
    sha256: str = ""


def family_of(name: str) -> str | None:
    """The family whose live version a name stands for; None for the name of a bundle."""
    family = name.removesuffix(_LIVE)
    return family if family != name and family else None


def follow_aliases(names: Sequence[str], database: Database) -> tuple[ChosenBundle, ...]:
    """The bundles of some names, in their order, each once; an alias is replaced by the version that is live.

    Parameters
    ----------
    names : names of bundles, and aliases
    database : the node's database

    Raises
    ------
    NoLiveVersion
        If no version of a family is live.
    """
    chosen: dict[str, ChosenBundle] = {}
    for name in names:
        family = family_of(name)
        if family is None:
            chosen.setdefault(name, ChosenBundle(name=name))
            continue
        version = live_version(database, family)
        chosen[version.bundle] = ChosenBundle(name=version.bundle, sha256=version.sha256)
    return tuple(chosen.values())


def find_named(config: NodeConfig, name: str) -> ModelBundle:
    """The bundle of a name, or of the live version of an alias, as it is installed now.

    For checks of a configuration, where no database is open.

    Parameters
    ----------
    config : the node's configuration
    name : of a bundle, or an alias

    Raises
    ------
    BundleError
        If it is not installed, is invalid, or another version of it is installed.
    NoLiveVersion
        If no version of the family is live.
    """
    family = family_of(name)
    if family is None:
        return find_bundle(name, config.bundle_paths)
    place = config.database_location
    if isinstance(place, Path) and not place.exists():
        raise NoLiveVersion(f"Family {family!r}; the node has not run yet.")
    try:
        database = Database(place, read_only=True)
    except NeverStarted:
        raise NoLiveVersion(f"Family {family!r}; the node has not run yet.") from None
    try:
        version = live_version(database, family)
    finally:
        database.close()
    bundle = find_bundle(version.bundle, config.bundle_paths)
    if bundle.sha256 != version.sha256:
        raise BundleReplaced(f"'{version.bundle}' is live as {version.sha256[:12]}.")
    return bundle
