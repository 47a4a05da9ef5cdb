"""Where the patient is."""

from __future__ import annotations

from dataclasses import dataclass

from orgseg_node.core.checks import Finding
from orgseg_node.core.geometry import Box
from orgseg_node.core.volume import Mask, Volume


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """The patient in a CT.

    Attributes
    ----------
    mask : (K, J, I) bool, true inside the patient
    box : the smallest box that holds the mask
    findings : what should be known about it
    """

    mask: Mask
    box: Box
    findings: tuple[Finding, ...]


def find_body(volume: Volume) -> Body:
    """The patient without couch, blankets, masks and head rests.  (being written)"""
    raise NotImplementedError
