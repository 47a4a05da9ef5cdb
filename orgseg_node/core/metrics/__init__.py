"""How well two masks of one organ agree: one pinned definition of each metric.

Tools differ by more than 10 % in what they call mean surface distance or 95 % Hausdorff distance of one and
the same pair of masks (Podobnik and Vrtovec, arXiv 2410.02630), so each module says which definition it
takes and
from where. What is not defined is NaN and said by a `Status`, never 0.
"""

from orgseg_node.core.metrics.comparison import Comparison, Status, compare
from orgseg_node.core.metrics.overlap import dice, jaccard, volume_difference_ml
from orgseg_node.core.metrics.path_length import AddedPath, added_path
from orgseg_node.core.metrics.surfaces import SurfaceDistances, surface_distances

__all__ = [
    "AddedPath",
    "Comparison",
    "Status",
    "SurfaceDistances",
    "added_path",
    "compare",
    "dice",
    "jaccard",
    "surface_distances",
    "volume_difference_ml",
]
