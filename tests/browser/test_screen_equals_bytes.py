"""What the viewer draws is the polygon of the delivered file, to the pixel of the screen.

The expected lines are computed here from the file by the formula of PS3.3 C.7.6.2.1.1, with pydicom and
numpy, and with none of the node's readers: for every slice of every organ.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page
from scipy.spatial import cKDTree

from tests.browser.conftest import MADE, REAL, Site

WORST_PX = 1.0
HALF_LINE_PX = 0.75
DRAWN = """
([organ, from, to]) => {
  const viewer = document.getElementById("viewer").viewer;
  viewer.withCross = false;
  viewer.show(viewer.shown.map((_, index) => index === organ));
  const found = [];
  for (let k = from; k < to; k += 1) {
    viewer.place.k = k;
    viewer.drawNow();
    const { width, height } = viewer.axial.lines;
    const pixels = viewer.axial.lines.getContext("2d").getImageData(0, 0, width, height).data;
    const solid = [], any = [];
    for (let index = 0; index < width * height; index += 1) {
      const alpha = pixels[4 * index + 3];
      if (alpha >= 128) solid.push(index);
      if (alpha > 0) any.push(index);
    }
    found.push([solid, any]);
  }
  return found;
}
"""


@pytest.mark.parametrize("name", [*MADE, *REAL])
def test_every_line_is_where_the_file_says(
    site: Site, cts: dict[str, Path], probe: Page, name: str, record_property: Any
) -> None:
    if name not in site.jobs:
        pytest.skip("the collected test data are not here (ORGSEG_TEST_DATA)")
    site.log_in(probe)
    probe.goto(f"{site.base}/cases/{site.jobs[name]}")
    probe.wait_for_selector("#viewer[data-drawn]")
    expected, shape, spacing = _expected(site, cts[name], name)
    width, height = probe.evaluate(
        "() => (({ width, height }) => [width, height])(document.getElementById('viewer').viewer.axial.lines)"
    )
    scale = min(width / (shape[1] * spacing[1]), height / (shape[0] * spacing[0]))
    left, top = (width - shape[1] * spacing[1] * scale) / 2, (height - shape[0] * spacing[0] * scale) / 2
    shown = probe.evaluate("() => document.getElementById('viewer').viewer.description")
    worst, lines, count = 0.0, 0, int(shown["slices"])
    names = [organ["name"] for organ in shown["organs"]]
    assert set(names) == set(expected)
    for organ, roi in enumerate(names):
        for begin in range(0, count, 40):
            end = min(count, begin + 40)
            drawn = probe.evaluate(DRAWN, [organ, begin, end])
            for k, (solid, touched) in enumerate(drawn, start=begin):
                paths = [
                    (path + 0.5) * spacing[::-1] * scale + (left, top) for path in expected[roi].get(k, [])
                ]
                lines += len(paths)
                worst = max(worst, _worst(paths, solid, touched, width, height))
    record_property("worst_px", round(worst, 3))
    print(f"\n{name}: {count} slices, {len(names)} organs, {lines} contours, worst {worst:.2f} px")  # noqa: T201
    assert lines > 10
    assert worst <= WORST_PX


def _expected(
    site: Site, ct: Path, name: str
) -> tuple[dict[str, dict[int, list[NDArray[np.float64]]]], tuple[int, int], NDArray[np.float64]]:
    """The contours of each ROI on each slice in pixels of the slice, the size of a slice, and its spacing."""
    images = [pydicom.dcmread(path) for path in sorted(ct.rglob("*")) if path.is_file()]
    row, column = np.reshape(images[0].ImageOrientationPatient, (2, 3)).astype(float)
    normal = np.cross(row, column)
    images.sort(key=lambda one: float(normal @ np.asarray(one.ImagePositionPatient, dtype=float)))
    (written,) = site.bench.store.attempts.objects(site.jobs[name])
    dataset = pydicom.dcmread(site.bench.jobs.data / written.path)
    used = {
        str(item.ReferencedSOPInstanceUID)
        for frame in dataset.ReferencedFrameOfReferenceSequence
        for study in frame.RTReferencedStudySequence
        for series in study.RTReferencedSeriesSequence
        for item in series.ContourImageSequence
    }
    images = [one for one in images if str(one.SOPInstanceUID) in used]
    place = {str(one.SOPInstanceUID): (k, one) for k, one in enumerate(images)}
    spacing = np.asarray(images[0].PixelSpacing, dtype=float)
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.StructureSetROISequence}
    found: dict[str, dict[int, list[NDArray[np.float64]]]] = {
        one: defaultdict(list) for one in names.values()
    }
    for roi in dataset.ROIContourSequence:
        for contour in roi.get("ContourSequence") or []:
            k, image = place[str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)]
            across, down = np.reshape(image.ImageOrientationPatient, (2, 3)).astype(float)
            offsets = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            offsets -= np.asarray(image.ImagePositionPatient, dtype=float)
            points = np.stack([offsets @ across / spacing[1], offsets @ down / spacing[0]], axis=1)
            found[names[int(roi.ReferencedROINumber)]][k].append(points)
    return found, (int(images[0].Rows), int(images[0].Columns)), spacing


def _worst(
    paths: list[NDArray[np.float64]], solid: list[int], touched: list[int], width: int, height: int
) -> float:
    """How far a drawn pixel is from the edge of the line, or a point of the line from a drawn pixel."""
    if not paths:
        return float(np.inf) if touched else 0.0
    line = np.concatenate([_dense(path) for path in paths])
    inside = (line > 0).all(axis=1) & (line[:, 0] < width) & (line[:, 1] < height)
    assert inside.all(), "the whole slice is on the screen"
    assert touched, "a contour of the file is not drawn"
    centres = _centres(touched, width)
    missing = float(cKDTree(centres).query(line)[0].max())
    beside = cKDTree(line).query(_centres(solid, width))[0].max() - HALF_LINE_PX if solid else 0.0
    return max(missing, float(beside))


def _centres(indices: list[int], width: int) -> NDArray[np.float64]:
    flat = np.asarray(indices)
    return np.stack([flat % width, flat // width], axis=1) + 0.5


def _dense(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points of a closed path, at most a quarter of a pixel apart."""
    ends = np.roll(path, -1, axis=0)
    steps = np.ceil(np.linalg.norm(ends - path, axis=1) / 0.25).astype(int) + 1
    pieces = [a + (b - a) * np.linspace(0, 1, n)[:, None] for a, b, n in zip(path, ends, steps, strict=True)]
    return np.concatenate(pieces)
