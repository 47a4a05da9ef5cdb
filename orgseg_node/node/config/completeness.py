"""Configuration section ``completeness``: when a series is complete."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import Field

from orgseg_node.node.config.section import Section, tables


class CompletenessSection(Section):
    """When a series is taken to be complete, and what is done about images that arrive later.

    Attributes
    ----------
    expect : ``ask`` the source of a sender how many images a series has, and retrieve those that are missing
    quiet_seconds_after_release : quiet time of a series whose associations all ended in order; that of the
        section ``receiver`` when None
    fetches : how often missing images are retrieved
    fetch_wait_s : pause between two retrievals
    answer_within_s : time limit for a source that does not answer; then geometry alone decides
    broken : a series whose sending was broken off (idle time-out, A-ABORT, lost connection, stop of the node)
        waits for the sender to send it again; then ``wait`` contours it, and the objects say so, and ``hold``
        holds it
    broken_wait_s : how long it waits, in seconds from the break
    late : ``hold`` a series if images arrive after its contours were delivered, or ``contour`` it again
    """

    expect: Literal["none", "ask"] = "none"
    quiet_seconds_after_release: Annotated[float, Field(ge=0.1, le=3600)] | None = None
    fetches: Annotated[int, Field(ge=0, le=20)] = 3
    fetch_wait_s: Annotated[float, Field(ge=0.1, le=3600)] = 15.0
    answer_within_s: Annotated[float, Field(ge=0.1, le=86400)] = 300.0
    broken: Literal["wait", "hold"] = "wait"
    broken_wait_s: Annotated[float, Field(ge=0.1, le=86400)] = 300.0
    late: Literal["hold", "contour"] = "hold"


def unknown_sources(data: dict[str, Any]) -> list[str]:
    """List senders whose source is not defined; also runs on a configuration with invalid fields."""
    problems = []
    known = [name for name, _ in tables(data.get("sources"))]
    for number, peer in tables(data.get("peers")):
        asked = peer.get("source")
        if asked is not None and asked not in known:
            near = difflib.get_close_matches(str(asked), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            problems.append(f"peers.{int(number) + 1}.source: there is no source {asked!r}{hint}")
    return problems
