"""Configuration section ``stow``: images by DICOMweb (STOW-RS), and the tokens of senders."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.secrets import read_private
from orgseg_node.node.config.section import Section, tables

_LINE: Final = re.compile(
    r"(?P<ae>[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?)\s+(?P<sha256>[0-9a-f]{64})"
)


class StowSection(Section):
    """Images by HTTP; the service is off without a file of tokens.

    Attributes
    ----------
    tokens : file with a line ``AE_TITLE SHA256`` for each token; only the hash of a token is stored
    path : path of the service on the node's web server
    max_part_mb, max_total_mb : limits of one instance and of one request
    at_once : how many requests are accepted at the same time
    idle_timeout_s : how long a sender may pause within a request
    part_timeout_s : how long one instance may take to arrive
    """

    tokens: Path | None = None
    path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._-]+)+$")] = "/dicomweb"
    max_part_mb: Annotated[int, Field(ge=1, le=16_000)] = 600
    max_total_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 8000
    at_once: Annotated[int, Field(ge=1, le=50)] = 4
    idle_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    part_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0

    def resolved(self, base: Path) -> StowSection:
        """The same with an absolute path."""
        if self.tokens is None:
            return self
        return self.model_copy(update={"tokens": base / self.tokens.expanduser()})


def read_tokens(path: Path) -> tuple[tuple[str, str], ...]:
    """Read the owners of tokens, as pairs of AE title and SHA-256 (hexadecimal digits).

    Empty lines and lines that begin with # are skipped. Raises ConfigError.
    """
    found = []
    for number, line in enumerate(read_private(path).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise ConfigError(f"{path}, line {number}: not an AE title and the SHA-256 of a token.")
        found.append((match["ae"], match["sha256"]))
    if not found:
        raise ConfigError(f"{path} holds no token.")
    return tuple(found)


def owner_of(token: str, tokens: tuple[tuple[str, str], ...]) -> str | None:
    """The AE title a token belongs to; the time it takes does not depend on the tokens."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    owner = None
    for ae_title, sha256 in tokens:
        if hmac.compare_digest(digest, sha256):
            owner = ae_title
    return owner


def stow_problems(data: dict[str, Any], base: Path) -> list[str]:
    """List what is wrong with the file of tokens; also runs on a configuration with invalid fields."""
    tokens = dict(tables(data)).get("stow", {}).get("tokens")
    if not isinstance(tokens, str):
        return []
    try:
        owners = {ae_title for ae_title, _ in read_tokens(base / Path(tokens).expanduser())}
    except ConfigError as error:
        return [f"stow.tokens: {error.detail}"]
    if dict(tables(data)).get("receiver", {}).get("accept_any_calling_ae"):
        return []
    listed = {str(peer.get("ae_title")) for _, peer in tables(data.get("peers"))}
    return [f"stow.tokens: [[peers]] does not list {owner!r}" for owner in sorted(owners - listed)]
