"""Agreement of two masks of one organ: one fixed definition of each metric.

For the same pair of masks, tools differ by more than 10 % in the mean surface distance or the 95 % Hausdorff
distance (Podobnik and Vrtovec, arXiv 2410.02630), so each module states its definition and the source. An
undefined value is NaN, with a `Status` that gives the reason, never 0.
"""

from orgseg_node.core.metrics.comparison import Comparison, Status, compare, touches_edge
from orgseg_node.core.metrics.edits import EditedSlices, edited_slices
from orgseg_node.core.metrics.overlap import dice, jaccard, volume_difference_ml
from orgseg_node.core.metrics.path_length import AddedPath, added_path
from orgseg_node.core.metrics.surfaces import SurfaceDistances, surface_distances

__all__ = [
    "AddedPath",
    "Comparison",
    "EditedSlices",
    "Status",
    "SurfaceDistances",
    "added_path",
    "compare",
    "dice",
    "edited_slices",
    "jaccard",
    "surface_distances",
    "touches_edge",
    "volume_difference_ml",
]
