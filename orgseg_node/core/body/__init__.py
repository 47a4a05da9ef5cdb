"""Finds the patient in a CT: the analytic body contour of the study, with corrections.

Salimi et al. crop every CT to a body contour found by a threshold, hole filling, removal of small islands and
the largest 3-D component. Implemented literally, that keeps the couch if it touches the back, drops arms and
legs that are separate, and cuts out metal. Here the patient is found on a coarse grid of about 4 mm
(`blocks`): objects that are not tissue are removed (`foreign`), a morphological opening separates thin
objects such as couch shells, blankets and masks (`parts`), and cavities are judged in three dimensions
(`cavities`). The skin is then taken from the full resolution (`outline`).
"""

from orgseg_node.core.body.crop import cut_to_body
from orgseg_node.core.body.outline import TISSUE_HU, Body, find_body

__all__ = ["TISSUE_HU", "Body", "cut_to_body", "find_body"]
