"""The montage: slices of the CT with the contours of the organs, for a quick visual check."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from orgseg_node.core.contours import Structure, StructureSet, trace
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import Organ
from orgseg_node.core.volume import LabelMap, Mask, Volume

UNREVIEWED = "AUTOMATIC, NOT REVIEWED"
_WINDOW_HU = (-160.0, 240.0)
_PLANES = ("sagittal", "coronal", "axial")  # by the LPS axis the plane is normal to
_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))  # patient directions of smaller and larger x, y, z
_COUNTS = (2, 2, 8)
_COLUMNS = 4
_MARGIN_MM = 45.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """The content of a montage.

    Attributes
    ----------
    volume : the CT
    label_map : the organs, on the same grid
    structures : their contours
    volumes_ml : ml by label number, if organs overlap and the label map would be wrong; else None
    marks : a word after the name of an organ in the legend, such as ``unusual``, by its key
    external : the delivered body contour; without contours if they are on other slices
    body : (K, J, I) bool, the patient, for the planes across the slices; needed with ``external``
    """

    volume: Volume
    label_map: LabelMap
    structures: StructureSet
    volumes_ml: Mapping[int, float] | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    external: Structure | None = None
    body: Mask | None = None

    @classmethod
    def of(
        cls, volume: Volume, label_map: LabelMap, delivered: StructureSet, body: Mask | None = None
    ) -> Scene:
        """The content for a result.

        Parameters
        ----------
        volume : the CT in HU on a regular grid
        label_map : the organs on the same grid
        delivered : the contours that are sent; traced again if they are on individual slices
        body : (K, J, I) bool, the patient on the same grid; drawn if its contour is sent
        """
        is_same = delivered.grid is label_map.grid
        drawn = delivered if is_same else trace(label_map)
        organs = tuple(one for one in drawn.structures if one.label is not None)
        external = None
        if body is not None and body.any():
            bodies = (one for one in delivered.structures if one.organ.interpreted_type == "EXTERNAL")
            external = next(bodies, None)
            if external is not None and not is_same:
                external = replace(external, contours=())
        return cls(
            volume=volume,
            label_map=label_map,
            structures=replace(drawn, structures=organs),
            external=external,
            body=body,
        )

    @property
    def box(self) -> Box:
        """The part that is shown: the organs with a margin."""
        margin = [int(_MARGIN_MM / step) + 1 for step in self.volume.grid.spacing_mm]
        return Box.around(self.label_map.labels > 0, (margin[0], margin[1], margin[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """One slicing direction: array axes (0 = k, 1 = j, 2 = i) and their LPS axes."""

    fixed: int
    across: int
    down: int
    lps: tuple[int, int, int]  # LPS axis (0 = x, 1 = y, 2 = z) of each array axis
    flip_across: bool
    flip_down: bool

    @property
    def plane(self) -> str:
        return _PLANES[self.lps[self.fixed]]


def montage(scene: Scene, note: str = UNREVIEWED) -> bytes:
    """Axial, coronal and sagittal slices with the organs' contours and a legend of TG-263 names, as PNG.

    On the planes of the CT slices the delivered polygons are drawn, on the others the contour of the label
    map. Patient's left is on the right of the image, head up.

    Parameters
    ----------
    scene : with at least one organ
    note : text at the top; whose contours these are
    """
    views = sorted(_views(scene.volume.grid), key=lambda view: -view.lps[view.fixed])
    cuts = [(view, index, scene.box) for view in views for index in _choose(scene, view)]
    cuts += _overviews(scene, views)
    rows = -(-len(cuts) // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS + 2.6, 3.4 * rows), facecolor="black")
    FigureCanvasAgg(figure)
    for position, (view, index, box) in enumerate(cuts, start=1):
        axes = figure.add_subplot(rows, _COLUMNS, position)
        _draw(axes, scene, view, index)
        _set_axes(axes, scene.volume.grid, box, view, index)
    figure.subplots_adjust(left=0.005, right=1 - 2.6 / (4 * _COLUMNS + 2.6), top=0.955, bottom=0.005)
    figure.subplots_adjust(wspace=0.02, hspace=0.08)
    _legend(figure, scene)
    figure.text(0.01, 0.975, note, color="#ffcc00", fontsize=14, weight="bold")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80, facecolor="black", metadata={"Software": None})
    return file.getvalue()


def _views(grid: Grid) -> list[_View]:
    """The three slicing directions of a grid, oriented as in radiotherapy: x to the right, y down, z up."""
    axes = np.asarray(grid.axes)
    lps = _nearest(axes)
    views = []
    for fixed in range(3):
        first, second = (axis for axis in range(3) if axis != fixed)
        # x is horizontal and z vertical if they are in the plane
        across, down = (first, second) if lps[first] < lps[second] else (second, first)
        grows_across = axes[across, lps[across]] > 0
        grows_down = axes[down, lps[down]] > 0
        views.append(
            _View(
                fixed=fixed,
                across=across,
                down=down,
                lps=lps,
                flip_across=not grows_across,
                flip_down=grows_down if lps[down] == 2 else not grows_down,
            )
        )
    return views


def _nearest(axes: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[int, int, int]:
    """The LPS axis closest to each array axis, each used once."""
    left = np.abs(axes)
    lps = [0, 0, 0]
    for _ in range(3):
        axis, direction = np.unravel_index(int(np.argmax(left)), left.shape)
        lps[int(axis)] = int(direction)
        left[axis, :] = left[:, direction] = -1.0
    return lps[0], lps[1], lps[2]


def _choose(scene: Scene, view: _View) -> list[int]:
    """Indices along a view's normal: in each section of the range with organs the one that shows most."""
    whole = np.moveaxis(scene.label_map.labels, view.fixed, 0)
    first, labels = _crop_to_organs(whole)
    numbers = [structure.label for structure in scene.structures.structures]
    shown = np.stack([np.count_nonzero(labels == number, axis=(1, 2)) for number in numbers])
    worth = np.count_nonzero(shown, axis=0) + shown.sum(axis=0) / (whole[0].size + 1)  # organs, then voxels
    occupied = np.flatnonzero(worth)
    parts = np.array_split(occupied, min(_COUNTS[view.lps[view.fixed]], occupied.size))
    return [first + int(part[np.argmax(worth[part])]) for part in parts]


def _overviews(scene: Scene, views: Sequence[_View]) -> list[tuple[_View, int, Box]]:
    """Slices that show the whole body, if its contour is sent: two axial ones, and the middle ones across."""
    if scene.external is None or scene.body is None:
        return []
    box = Box.around(scene.body, margin=(1, 3, 3))
    cuts = []
    for view in views:
        first, size = box.start[view.fixed], box.shape[view.fixed]
        parts = (1 / 3, 2 / 3) if view.plane == "axial" else (0.5,)
        cuts += [(view, first + min(int(part * size), size - 1), box) for part in parts]
    return cuts


def _crop_to_organs(labels: NDArray[np.uint8]) -> tuple[int, NDArray[np.uint8]]:
    """First index along the first axis, and the part of the labels with organs."""
    box = Box.around(labels > 0)
    return box.start[0], labels[box.slices]


def _draw(axes: Axes, scene: Scene, view: _View, index: int) -> None:
    plane = scene.volume.hu.take(index, axis=view.fixed)
    labels = scene.label_map.labels.take(index, axis=view.fixed)
    if view.across < view.down:  # take() keeps the order of the axes; the image needs (down, across)
        plane, labels = plane.T, labels.T
    spacing = scene.volume.grid.spacing_mm
    axes.imshow(
        plane,
        cmap="gray",
        vmin=_WINDOW_HU[0],
        vmax=_WINDOW_HU[1],
        aspect=spacing[view.down] / spacing[view.across],
        interpolation="bilinear",
    )
    _draw_external(axes, scene, view, index)
    for structure in scene.structures.structures:
        color = _rgb(structure.organ)
        if view.fixed == 0:
            axes.add_collection(
                LineCollection(_polygons(structure, view, index), colors=[color], linewidths=1.3)
            )
        elif (labels == structure.label).any():
            axes.contour(labels == structure.label, levels=[0.5], colors=[color], linewidths=1.3)


def _draw_external(axes: Axes, scene: Scene, view: _View, index: int) -> None:
    """Draw the body contour, below those of the organs and thinner."""
    if scene.external is None or scene.body is None:
        return
    color = _rgb(scene.external.organ)
    if view.fixed == 0 and scene.external.contours:
        lines = _polygons(scene.external, view, index)
        axes.add_collection(LineCollection(lines, colors=[color], linewidths=0.8))
        return
    plane = scene.body.take(index, axis=view.fixed)
    plane = plane.T if view.across < view.down else plane
    if plane.any():
        axes.contour(plane, levels=[0.5], colors=[color], linewidths=0.8)


def _polygons(
    structure: Structure, view: _View, k: int
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Closed polygons of a structure on slice k, (N + 1, 2) in image coordinates (across, down)."""
    columns = [2 - view.across, 2 - view.down]  # points are (i, j) = array axes (2, 1)
    return [
        np.vstack([contour.points, contour.points[:1]])[:, columns]
        for contour in structure.contours
        if contour.k == k
    ]


def _set_axes(axes: Axes, grid: Grid, box: Box, view: _View, index: int) -> None:
    """Show the box only, correctly oriented, with the name of the plane and the patient directions."""
    start, stop = box.start, box.stop
    across = (start[view.across] - 1.5, stop[view.across] + 0.5)
    down = (stop[view.down] + 0.5, start[view.down] - 1.5)
    axes.set_xlim(across[::-1] if view.flip_across else across)
    axes.set_ylim(down[::-1] if view.flip_down else down)
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    millimetres = grid.to_lps([_corner(view.fixed, index)])[0][view.lps[view.fixed]]
    axes.set_title(f"{view.plane} {millimetres:+.0f} mm", color="white", fontsize=10, pad=3)
    smaller, larger = _LETTERS[view.lps[view.across]]
    for text, x in ((smaller, 0.02), (larger, 0.95)):
        axes.text(x, 0.5, text, color="#80c0ff", fontsize=10, transform=axes.transAxes)


def _corner(axis: int, index: int) -> Sequence[int]:
    return [index if each == axis else 0 for each in range(3)]


def _rgb(organ: Organ) -> tuple[float, float, float]:
    red, green, blue = organ.color
    return red / 255, green / 255, blue / 255


def _legend(figure: Figure, scene: Scene) -> None:
    volumes_ml = scene.volumes_ml or scene.label_map.volumes_ml()
    lines, names = [], []
    for structure in scene.structures.structures:
        lines.append(Line2D([], [], color=_rgb(structure.organ), linewidth=4))
        mark = scene.marks.get(structure.organ.key)
        volume = f"{structure.organ.name}  {volumes_ml[structure.label or 0]:.1f} ml"
        names.append(f"{volume}\n! {mark}" if mark else volume)
    if scene.external is not None and scene.body is not None:
        lines.append(Line2D([], [], color=_rgb(scene.external.organ), linewidth=2))
        litres = np.count_nonzero(scene.body) * scene.volume.grid.voxel_ml / 1000.0
        names.append(f"{scene.external.organ.name}  {litres:.2f} l")
    figure.legend(
        lines, names, loc="center right", frameon=False, labelcolor="white", fontsize=11, handlelength=1.2
    )
