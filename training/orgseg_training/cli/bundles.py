"""The bundle that a command names: installed, made at the site, or a folder."""

from __future__ import annotations

from pathlib import Path

from orgseg_node.errors import UnknownBundle
from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle, open_bundle
from orgseg_node.shipped import bundle_folders
from orgseg_training.site.site import Site


def open_named(text: str, site: Site) -> ModelBundle:
    """An installed bundle of this name, else one that was trained at the site, or the bundle in a folder.

    Parameters
    ----------
    text : name or folder
    site : whose own bundles are known by name as well

    Raises
    ------
    UnknownBundle
        If there is neither.
    BundleInvalid
        If it is there and invalid.
    """
    path = Path(text)
    if path.is_dir():
        return open_bundle(path.resolve())
    try:
        return find_bundle(text, (*bundle_folders(), site.root / "models"))
    except UnknownBundle as error:
        raise UnknownBundle(f"{error.detail} There is no folder {text!r} either.") from None
