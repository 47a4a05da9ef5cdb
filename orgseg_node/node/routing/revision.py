"""Revisions: a configuration, and the context in which jobs are processed, each named by a content hash."""

from __future__ import annotations

from typing import Any

from orgseg_node import __version__
from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.errors import OrgsegError
from orgseg_node.inference.bundles.bundle import list_bundles
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.store.canonical import short_hash


def content_of(config: NodeConfig) -> dict[str, Any]:
    """The content of a configuration: its settings, its rules, and the protocols that they name.

    Secrets are not included: settings only name the files that hold them.
    """
    protocols = {name: _protocol(name) for name in protocols_of(config)}
    return {"settings": config.model_dump(mode="json"), "protocols": protocols}


def protocols_of(config: NodeConfig) -> tuple[str, ...]:
    """Every protocol that the configuration and its rules name, each once."""
    named = [config.contours.protocol, *(rule.protocol for rule in config.rule if rule.protocol)]
    return tuple(dict.fromkeys(named))


def _protocol(name: str) -> dict[str, Any]:
    try:
        return dict(load_protocol(name).as_json)
    except OrgsegError as error:
        return {"error": error.code}


def revision_of(config: NodeConfig) -> str:
    """The revision of a configuration: 16 hexadecimal digits, the same for the same content."""
    return short_hash(content_of(config))


def context_content(config: NodeConfig) -> dict[str, Any]:
    """The context in which jobs are processed now: program version, configuration, and all model bundles."""
    bundles = {bundle.manifest.name: bundle.sha256 for bundle in list_bundles(config.bundle_paths)}
    return {"version": __version__, "config": revision_of(config), "bundles": bundles}
