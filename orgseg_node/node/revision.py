"""Which configuration a job was made under, as one short number."""

from __future__ import annotations

import hashlib
import json

from orgseg_node.errors import OrgsegError
from orgseg_node.node.config import NodeConfig
from orgseg_node.node.protocols import load_protocol


def revision_of(config: NodeConfig) -> str:
    """16 hexadecimal digits that change with every setting, every rule and every protocol in use."""
    content = {
        "config": config.model_dump(mode="json"),
        "protocols": {name: _content(name) for name in protocols_of(config)},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def protocols_of(config: NodeConfig) -> tuple[str, ...]:
    """Every protocol that the configuration and its rules name, each once."""
    named = [config.contours.protocol, *(rule.protocol for rule in config.rule if rule.protocol)]
    return tuple(dict.fromkeys(named))


def _content(name: str) -> str:
    try:
        return load_protocol(name).sha256
    except OrgsegError as error:
        return error.code
