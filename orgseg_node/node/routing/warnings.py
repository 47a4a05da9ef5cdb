"""What a configuration allows and may not mean: it can be used, but an administrator should know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from orgseg_node.errors import NoLiveVersion, OrgsegError
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.config.rules import Action
from orgseg_node.node.config.tls import tls_warnings
from orgseg_node.node.models.alias import family_of, find_named
from orgseg_node.shipped import shipped_bundles

_NOT_CLINICAL: Final = re.compile(r"not (be used )?for (clinical|patient)", re.IGNORECASE)


def config_warnings(config: NodeConfig) -> list[str]:
    """List what may not be meant: models that are missing or not for patients, no destination, open doors."""
    senders = {peer.ae_title: peer for peer in config.peers}
    return [*_bundles(config), *_results(config), *_senders(config), *tls_warnings(config.tls, senders)]


def _bundles(config: NodeConfig) -> Iterator[str]:
    named = [name for rule in config.rule if rule.action is Action.CONTOUR for name in rule.bundles or ()]
    for name in dict.fromkeys((*config.inference.bundles, *named)):
        try:
            bundle = find_named(config, name)
        except NoLiveVersion as error:
            yield f"inference.bundles: {error.sentence} Series are held until a version is promoted."
            continue
        except OrgsegError as error:
            follows = (
                f"See {name}." if family_of(name) else "Jobs will fail until it is imported on the node."
            )
            yield f"inference.bundles: {error.sentence} {follows}"
            continue
        if bundle.path.parent == shipped_bundles() or _NOT_CLINICAL.search(bundle.manifest.intended_use):
            yield f"inference.bundles: {name} is not for patients: {bundle.manifest.intended_use}"


def _results(config: NodeConfig) -> Iterator[str]:
    if not config.destinations:
        yield "destinations: there is none; results stay in the data folder and are sent nowhere"
    for number, rule in enumerate(config.rule, start=1):
        if config.destinations and rule.action is Action.CONTOUR and rule.destinations == ():
            yield f"rule {number} ({rule.name}): has no destination; its results are sent nowhere"


def _senders(config: NodeConfig) -> Iterator[str]:
    if config.receiver.accept_any_calling_ae:
        yield "receiver.accept_any_calling_ae: anyone who reaches the port may send"
    anywhere = sorted(peer.ae_title for peer in config.peers if not peer.networks)
    if anywhere and not config.receiver.accept_any_calling_ae:
        yield f"peers: {', '.join(anywhere)} may call from any address; networks limits it"
    titles = {peer.ae_title for peer in config.peers}
    for name, source in config.sources.items():
        unknown = source.ae_title not in titles and not config.receiver.accept_any_calling_ae
        if source.method == "move" and unknown:
            yield f"sources.{name}: [[peers]] does not list {source.ae_title}; what it sends is rejected"
