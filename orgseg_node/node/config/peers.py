"""What each sender may do, and what is done with structure sets that senders send back.

A sender has AE titles that it may call, classes that it may send, and a number of associations at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from orgseg_node.node.config.section import AeTitle, Section, tables
from orgseg_node.node.config.tls import SenderCertificate

SopClass = Literal["CT", "EnhancedCT", "LegacyConvertedEnhancedCT"]

SOP_CLASSES: Final[Mapping[SopClass, str]] = {
    "CT": CTImageStorage,
    "EnhancedCT": EnhancedCTImageStorage,
    "LegacyConvertedEnhancedCT": LegacyConvertedEnhancedCTImageStorage,
}
"""Storage SOP classes by their names in the configuration."""

_NO_COMMITMENT: Final = (
    "was removed; the node no longer confirms storage commitment to senders, because it deletes series after"
    " the retention time. Delete this line"
)
REMOVED_OF_PEERS: Final[Mapping[str, str]] = dict.fromkeys(("host", "port", "tls"), _NO_COMMITMENT)
"""Settings of a peer that earlier releases had, and what to do with them."""


class PeerRules(SenderCertificate):
    """What a sender may do.

    Attributes
    ----------
    sop_classes : what it may send; all that the node accepts when None; only C-ECHO when empty
    called : the AE titles of the node that it may call; all of them when empty
    max_associations : how many it may have open at once; limited only by the node when None
    """

    sop_classes: tuple[SopClass, ...] | None = None
    called: tuple[AeTitle, ...] = ()
    max_associations: Annotated[int, Field(ge=1, le=200)] | None = None

    def may_call(self, title: str) -> bool:
        """Whether it may call the node by this AE title."""
        return not self.called or title in self.called

    def may_send(self, sop_class: str) -> bool:
        """Whether it may send instances of a storage SOP class; classes without a name here are allowed."""
        known = {uid: name for name, uid in SOP_CLASSES.items()}
        return self.sop_classes is None or sop_class not in known or known[sop_class] in self.sop_classes


def title_contradictions(data: Mapping[str, Any]) -> list[str]:
    """List contradictions between the node's AE titles and those peers may call; also with invalid fields."""
    node = dict(tables(data)).get("node", {})
    own, more = node.get("ae_title", "ORGSEG"), node.get("also_called", ())
    more = [title for title in more if isinstance(title, str)] if isinstance(more, (list, tuple)) else []
    problems = [
        f"node.also_called: {title!r} is listed twice"
        for title in sorted({title for title in more if [own, *more].count(title) > 1})
    ]
    for number, peer in tables(data.get("peers")):
        called = peer.get("called", ())
        for title in called if isinstance(called, (list, tuple)) else ():
            if title not in (own, *more):
                near = difflib.get_close_matches(str(title), [str(own), *more], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                problems.append(f"peers.{int(number) + 1}.called: the node is not called {title!r}{hint}")
    return problems


def _expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


class FeedbackSection(Section):
    """Structure sets that peers with ``feedback = true`` send back, and how they are measured.

    Attributes
    ----------
    approved_label : a structure set whose label matches this regular expression counts as approved, too
    unapproved : what is done with one that is neither: ``aside`` measures it and does not count it, ``count``
        counts it, for planning systems that export no approval
    baseline : so many approved cases set the limits of a control chart for good
    provisional : from so many on there are provisional limits
    memory_mb, limit_s : the process that measures a structure set is ended when it uses more
    """

    approved_label: Annotated[str, AfterValidator(_expression)] = ""
    unapproved: Literal["aside", "count"] = "aside"
    baseline: Annotated[int, Field(ge=20, le=10_000)] = 150
    provisional: Annotated[int, Field(ge=20, le=10_000)] = 20
    memory_mb: Annotated[int, Field(ge=500, le=100_000)] = 6000
    limit_s: Annotated[float, Field(gt=0, le=86_400)] = 900.0
