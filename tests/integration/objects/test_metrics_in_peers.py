"""Our metrics beside those of other libraries, on made and on real masks; each difference has a reason.

surface-distance
    The same elements and distances. Its table of areas triangulates cells with bent surface otherwise and
    takes some ambiguous cells for their complement: single cells differ, sums by about 2 %. Its mean is
    of each direction, not pooled. It takes the end of the scan for surface and fails on empty masks with
    NumPy 2.
MONAI
    The surface is the layer of voxels at the edge *inside* the organ, each counting 1 whatever its area.
    Distances run between voxel centres. HD95 is the larger direction, as ours; its percentile
    interpolates. With ``use_subvoxels`` its surface Dice is that of surface-distance.
SimpleITK
    Dice and Jaccard as ours. Hausdorff distance of *all* voxels of the organ, not of its surface; its
    "average Hausdorff distance" averages over those too (0 inside), so it is no mean surface distance.
MedPy (GPL, only with the extra ``crosscheck``)
    A voxel layer as MONAI; HD95 of both directions pooled, not the larger.

The voxel layers of MONAI, SimpleITK and MedPy lie half a voxel inside the surface on either side. Where
masks lie apart the same way on all sides this cancels; elsewhere it is less than one voxel diagonal.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from orgseg_node.core.geometry import Box, Vector
from orgseg_node.core.metrics import Comparison, Status, compare, surface_distances
from orgseg_node.core.volume import Mask
from orgseg_node.shipped import shipped_demo

ORGANS = {1: "brainstem", 2: "spinal cord", 3: "parotid right", 6: "larynx", 7: "mandible"}


@dataclass(frozen=True)
class Pair:
    """A reference, a prediction and their spacing; nothing touches the edge of the array."""

    reference: Mask
    prediction: Mask
    spacing_mm: Vector

    @property
    def diagonal_mm(self) -> float:
        return math.hypot(*self.spacing_mm)

    def ours(self, tolerance_mm: float = 2.0) -> Comparison:
        return compare(self.reference, self.prediction, self.spacing_mm, tolerance_mm)


def random_pair(seed: int) -> Pair:
    """Blobs of smoothed noise and a disturbed copy, anisotropic in all three directions."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(24, 36, 40)), (1.5, 3, 3))
    other = field + 0.5 * field.std() * ndimage.gaussian_filter(rng.normal(size=field.shape), 2) / 0.1
    level = np.quantile(field, 0.8)
    masks = []
    for values in (field, other):
        mask = np.zeros(field.shape, bool)
        mask[2:-2, 2:-2, 2:-2] = values[2:-2, 2:-2, 2:-2] > level
        masks.append(mask)
    return Pair(masks[0], masks[1], tuple(rng.uniform(0.7, 3.5, 3)))


def real_pair(number: int) -> Pair:
    """A contour of the demonstration patient, drawn in the clinic, and the same one warped smoothly."""
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(shipped_demo() / "reference_labels.nii.gz")), "LPS")
    labels = SimpleITK.GetArrayFromImage(image)
    reference = np.pad(labels[Box.around(labels == number).slices] == number, 6)
    rng = np.random.default_rng(number)
    shifts = [ndimage.gaussian_filter(rng.normal(size=reference.shape), 4) * 60 for _ in range(3)]
    places = [axis + shift for axis, shift in zip(np.indices(reference.shape), shifts, strict=True)]
    prediction = ndimage.map_coordinates(reference.astype(np.float32), places, order=1) > 0.5
    edge = np.zeros(reference.shape, bool)
    edge[1:-1, 1:-1, 1:-1] = True
    dx, dy, dz = image.GetSpacing()
    return Pair(reference, prediction & edge, (dz, dy, dx))


PAIRS: dict[str, Callable[[], Pair]] = {
    **{f"random {seed}": lambda seed=seed: random_pair(seed) for seed in range(4)},  # type: ignore[misc]
    **{name: lambda number=number: real_pair(number) for number, name in ORGANS.items()},  # type: ignore[misc]
}


@pytest.fixture(params=PAIRS, scope="module")
def pair(request: pytest.FixtureRequest) -> Pair:
    found = PAIRS[request.param]()
    ours = found.ours()
    assert ours.status is Status.OK
    assert 0.2 < ours.dsc < 0.999, "a pair that tells definitions apart"
    return found


def test_surface_distance_has_the_same_distances_and_nearly_the_same_areas(pair: Pair) -> None:
    surface_distance = pytest.importorskip("surface_distance")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it calls scipy by names of old
        theirs = surface_distance.compute_surface_distances(pair.reference, pair.prediction, pair.spacing_mm)
    ours = surface_distances(pair.reference, pair.prediction, pair.spacing_mm)
    assert np.allclose(np.sort(ours.to_prediction_mm), theirs["distances_gt_to_pred"])
    assert np.allclose(np.sort(ours.to_reference_mm), theirs["distances_pred_to_gt"])
    assert ours.reference_mm2.sum() == pytest.approx(theirs["surfel_areas_gt"].sum(), rel=0.05)
    assert ours.hausdorff_mm == pytest.approx(surface_distance.compute_robust_hausdorff(theirs, 100))
    # one element more or less moves a percentile by one step of the grid at most
    step = max(pair.spacing_mm)
    assert ours.hausdorff95_mm == pytest.approx(
        surface_distance.compute_robust_hausdorff(theirs, 95), abs=step
    )
    for tolerance in (1.0, 2.0, 3.0):
        their_dice = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert ours.surface_dice(tolerance) == pytest.approx(their_dice, abs=0.02)
    to_prediction, to_reference = surface_distance.compute_average_surface_distance(theirs)
    ours_each = (
        np.average(ours.to_prediction_mm, weights=ours.reference_mm2),
        np.average(ours.to_reference_mm, weights=ours.prediction_mm2),
    )
    assert ours_each == pytest.approx((to_prediction, to_reference), rel=0.05)
    assert min(ours_each) <= ours.mean_mm <= max(ours_each), "pooled lies between the two directions"


@pytest.mark.filterwarnings("ignore:monai.metrics.utils:FutureWarning")  # MONAI warns of its own calls
def test_monai_differs_by_less_than_the_half_voxel_its_surface_lies_inside(pair: Pair) -> None:
    metrics = pytest.importorskip("monai.metrics")
    import torch  # noqa: PLC0415 - with MONAI only

    a, b = (torch.from_numpy(m[None, None].astype(np.float32)) for m in (pair.prediction, pair.reference))
    ours = pair.ours()
    assert float(metrics.DiceMetric()(a, b)[0, 0]) == pytest.approx(ours.dsc, abs=1e-6)
    assert float(metrics.MeanIoU()(a, b)[0, 0]) == pytest.approx(ours.jaccard, abs=1e-6)
    spacing = list(pair.spacing_mm)
    for percentile, ours_mm in ((None, ours.hd_mm), (95, ours.hd95_mm)):
        their_mm = float(
            metrics.compute_hausdorff_distance(
                a, b, include_background=True, percentile=percentile, spacing=spacing
            )
        )
        assert their_mm == pytest.approx(ours_mm, abs=pair.diagonal_mm)
    mean = float(
        metrics.compute_average_surface_distance(
            a, b, include_background=True, symmetric=True, spacing=spacing
        )
    )
    assert mean == pytest.approx(ours.msd_mm, abs=pair.diagonal_mm / 2)
    their_dice = metrics.compute_surface_dice(
        a, b, [2.0], include_background=True, spacing=spacing, use_subvoxels=True
    )
    assert float(their_dice) == pytest.approx(ours.sdsc_2mm, abs=0.02), "areas as in surface-distance"


def test_simpleitk_has_the_same_overlaps_and_nearly_the_same_hausdorff_distance(pair: Pair) -> None:
    images = []
    for mask in (pair.reference, pair.prediction):
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing([float(s) for s in reversed(pair.spacing_mm)])
        images.append(image)
    ours = pair.ours()
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    assert overlap.GetDiceCoefficient() == pytest.approx(ours.dsc)
    assert overlap.GetJaccardCoefficient() == pytest.approx(ours.jaccard)
    hausdorff = SimpleITK.HausdorffDistanceImageFilter()
    hausdorff.Execute(*images)
    assert hausdorff.GetHausdorffDistance() == pytest.approx(ours.hd_mm, abs=pair.diagonal_mm)
    masks = (pair.reference, pair.prediction)
    outside = [ndimage.distance_transform_edt(~mask, sampling=pair.spacing_mm) for mask in masks]
    averages = [outside[1][masks[0]].mean(), outside[0][masks[1]].mean()]
    assert hausdorff.GetAverageHausdorffDistance() == pytest.approx(np.mean(averages), rel=1e-4)
    volumes = [float(SimpleITK.GetArrayViewFromImage(i).sum()) * math.prod(i.GetSpacing()) for i in images]
    assert ours.vd_ml == pytest.approx((volumes[1] - volumes[0]) / 1000)


def test_medpy_differs_by_less_than_the_half_voxel_its_surface_lies_inside(pair: Pair) -> None:
    binary = pytest.importorskip(
        "medpy.metric.binary", reason="MedPy (GPL) comes with the extra 'crosscheck'"
    )
    ours = pair.ours()
    assert binary.dc(pair.prediction, pair.reference) == pytest.approx(ours.dsc)
    assert binary.jc(pair.prediction, pair.reference) == pytest.approx(ours.jaccard)
    masks = (pair.prediction, pair.reference, pair.spacing_mm)
    assert binary.hd(*masks) == pytest.approx(ours.hd_mm, abs=pair.diagonal_mm)
    assert binary.assd(*masks) == pytest.approx(ours.msd_mm, abs=pair.diagonal_mm / 2)
    assert binary.hd95(*masks) <= ours.hd95_mm + pair.diagonal_mm, (
        "pooled is never above the larger direction"
    )


def test_distances_are_those_of_a_distance_transform_of_the_whole_picture(pair: Pair) -> None:
    """The search tree and the crop change nothing: the same elements, measured by scipy's transform."""

    def elements(mask: Mask) -> Mask:
        padded = np.pad(mask, 1).astype(np.uint8)
        count = ndimage.uniform_filter(padded.astype(float), 2, mode="constant", origin=-1)[:-1, :-1, :-1]
        return (count > 1e-6) & (count < 1 - 1e-6)

    here, there = elements(pair.reference), elements(pair.prediction)
    transform = ndimage.distance_transform_edt(~there, sampling=pair.spacing_mm)
    ours = surface_distances(pair.reference, pair.prediction, pair.spacing_mm)
    assert np.allclose(np.sort(ours.to_prediction_mm), np.sort(transform[here]))
