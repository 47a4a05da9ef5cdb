"""Faults that are injected into clinical contours, as they are known from automatic and manual contouring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.volume import Mask

Labels = NDArray[np.uint8]
_ISLAND_MM: Final = 7.0
TUBES: Final = frozenset({"spinal_cord", "esophagus"})  # moved along themselves they stay where they are


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patient:
    """A patient with clinical contours.

    Attributes
    ----------
    name : of the case
    hu : (K, J, I) Hounsfield units; the axes increase to the head, to the back and to the left
    body : (K, J, I) bool
    labels : (K, J, I) uint8
    numbers : label number by key of the organ, of drawn organs only
    grid : of the CT
    """

    name: str
    hu: NDArray[np.int16]
    body: Mask
    labels: Labels
    numbers: Mapping[str, int]
    grid: Grid

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of voxels along k, j, i."""
        return self.grid.spacing_mm

    def mask(self, organ: str) -> Mask:
        """(K, J, I) bool of one organ."""
        return np.equal(self.labels, self.numbers[organ])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fault:
    """Contours with one fault.

    Attributes
    ----------
    kind : such as ``shift 20 mm``
    organ : which one is wrong; of an exchange, the first
    labels : (K, J, I) uint8
    dice : of the wrong organ with the original
    """

    kind: str
    organ: str
    labels: Labels
    dice: float


def inject(patient: Patient, organ: str, other: Patient, rng: np.random.Generator) -> Iterator[Fault]:
    """Every kind of fault of one organ.

    Parameters
    ----------
    patient : with correct contours
    organ : key of the organ
    other : another patient, whose organ is taken
    rng : for directions and places
    """
    mask = patient.mask(organ)
    for kind, make in _KINDS.items():
        changed = make(patient, organ, mask, rng)
        if changed is not None and changed.any():
            yield _fault(kind, patient, organ, changed)
    yield from _renamed(patient, organ, rng)
    if organ in other.numbers:
        yield _fault("other patient", patient, organ, _of_other(patient, other, organ))


def _fault(kind: str, patient: Patient, organ: str, changed: Mask) -> Fault:
    number, labels = patient.numbers[organ], patient.labels.copy()
    before = labels == number
    labels[before] = 0
    labels[changed] = number
    return Fault(kind=kind, organ=organ, labels=labels, dice=dice(before, changed))


def dice(first: Mask, second: Mask) -> float:
    """Dice of two masks."""
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2.0 * int(np.count_nonzero(first & second)) / total if total else 1.0


def _renamed(patient: Patient, organ: str, rng: np.random.Generator) -> Iterator[Fault]:
    """Names exchanged with the other side, and with an organ that is no twin."""
    twin = organ.replace("_left", "_right") if organ.endswith("_left") else organ.replace("_right", "_left")
    if twin != organ and twin in patient.numbers:
        yield _exchange("swapped sides", patient, organ, twin)
    rest = sorted(patient.numbers.keys() - {organ, twin})
    if rest:
        yield _exchange("exchanged names", patient, organ, str(rng.choice(rest)))


def _exchange(kind: str, patient: Patient, first: str, second: str) -> Fault:
    one, two, labels = patient.mask(first), patient.mask(second), patient.labels.copy()
    labels[one], labels[two] = patient.numbers[second], patient.numbers[first]
    return Fault(kind=kind, organ=first, labels=labels, dice=dice(one, two))


def moved(mask: Mask, steps: NDArray[np.int_]) -> Mask:
    """A mask moved by whole voxels; what leaves the image is lost."""
    result = np.zeros_like(mask)
    source = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(steps, mask.shape, strict=True))
    target = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(steps, mask.shape, strict=True))
    result[target] = mask[source]
    return result


def _shift(mm: float) -> Callable[[Patient, str, Mask, np.random.Generator], Mask]:
    def make(patient: Patient, organ: str, mask: Mask, rng: np.random.Generator) -> Mask:
        for _ in range(200):
            direction = rng.normal(size=3)
            if organ in TUBES:
                direction[0] = 0.0
            direction *= mm / np.linalg.norm(direction)
            steps = np.rint(direction / patient.spacing_mm).astype(int)
            length = float(np.linalg.norm(steps * np.asarray(patient.spacing_mm)))
            if abs(length - mm) <= max(1.0, 0.05 * mm):
                break
        return moved(mask, steps)

    return make


def _grown(mm: float) -> Callable[[Patient, str, Mask, np.random.Generator], Mask]:
    def make(patient: Patient, organ: str, mask: Mask, rng: np.random.Generator) -> Mask:
        del organ, rng
        box, changed = _near(patient, mask, mm), mask.copy()
        away = ndimage.distance_transform_edt(~mask[box], sampling=patient.spacing_mm)
        changed[box] = (away <= mm) & patient.body[box]
        return changed

    return make


def _shrunk(mm: float) -> Callable[[Patient, str, Mask, np.random.Generator], Mask]:
    def make(patient: Patient, organ: str, mask: Mask, rng: np.random.Generator) -> Mask:
        del organ, rng
        box, changed = _near(patient, mask, mm), mask.copy()
        padded = np.pad(mask[box], 1, mode="edge")  # an end of the scan is no surface
        depth = ndimage.distance_transform_edt(padded, sampling=patient.spacing_mm)
        changed[box] = depth[1:-1, 1:-1, 1:-1] > mm
        return changed

    return make


def _near(patient: Patient, mask: Mask, mm: float) -> tuple[slice, slice, slice]:
    """The part of the image around a mask."""
    k, j, i = (int(np.ceil(mm / step)) + 1 for step in patient.spacing_mm)
    return Box.around(mask, (k, j, i)).slices


def _end_cut(share: float) -> Callable[[Patient, str, Mask, np.random.Generator], Mask | None]:
    def make(patient: Patient, organ: str, mask: Mask, rng: np.random.Generator) -> Mask | None:
        del patient, organ
        shown = np.flatnonzero(mask.any(axis=(1, 2)))
        count = round(share * shown.size)
        if count < 2:
            return None
        gone = shown[:count] if rng.random() < 0.5 else shown[-count:]
        changed = mask.copy()
        changed[gone] = False
        return changed

    return make


def _without_slices(patient: Patient, organ: str, mask: Mask, rng: np.random.Generator) -> Mask | None:
    del patient, organ
    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    if shown.size < 5:
        return None
    first = int(rng.integers(1, shown.size - 2))
    changed = mask.copy()
    changed[shown[first : first + 2]] = False
    return changed


def _island(
    nearest: float, farthest: float
) -> Callable[[Patient, str, Mask, np.random.Generator], Mask | None]:
    """An additional ball with a radius of 7 mm (1.4 ml) in the patient, at a distance from the organ."""

    def make(patient: Patient, organ: str, mask: Mask, rng: np.random.Generator) -> Mask | None:
        del organ
        inside = np.argwhere(patient.body)
        places = inside[rng.permutation(len(inside))[:4000]]
        tree = KDTree(np.argwhere(mask) * patient.spacing_mm)
        away = tree.query(places * patient.spacing_mm)[0] - _ISLAND_MM
        fitting = places[(away > nearest) & (away < farthest)]
        return mask | (_ball(patient, fitting[0], _ISLAND_MM) & patient.body) if len(fitting) else None

    return make


def _leak(patient: Patient, organ: str, mask: Mask, rng: np.random.Generator) -> Mask:
    """A ball with a radius of 14 mm at the surface of the organ, in the patient; neighbours lose it."""
    del organ
    box = _near(patient, mask, 0.0)
    surface = np.argwhere(mask[box] & ~ndimage.binary_erosion(mask[box])) + [part.start for part in box]
    ball = _ball(patient, surface[rng.integers(len(surface))], 14.0)
    return mask | (ball & patient.body)


def _ball(patient: Patient, centre: NDArray[np.int_], radius: float) -> Mask:
    squared = sum(
        ((np.arange(size) - middle) * step).reshape([-1 if axis == n else 1 for axis in range(3)]) ** 2
        for n, (size, middle, step) in enumerate(
            zip(patient.labels.shape, centre, patient.spacing_mm, strict=True)
        )
    )
    return np.asarray(squared <= radius**2)


def _of_other(patient: Patient, other: Patient, organ: str) -> Mask:
    """The organ of another patient, with head and middle of both bodies at the same place."""
    mask = other.mask(organ)
    zoom = [theirs / ours for theirs, ours in zip(other.spacing_mm, patient.spacing_mm, strict=True)]
    moved_mask = np.zeros_like(patient.body)
    index = np.argwhere(mask)
    start, target = _top(other.body), _top(patient.body)
    low = np.floor((index - 0.5 - start) * zoom + target + 0.5).astype(int)
    high = np.floor((index + 0.5 - start) * zoom + target + 0.5).astype(int)
    for a, b in zip(low, np.maximum(high, low + 1), strict=True):
        moved_mask[tuple(slice(max(x, 0), max(y, 0)) for x, y in zip(a, b, strict=True))] = True
    return moved_mask


def _top(body: Mask) -> NDArray[np.float64]:
    """(k, j, i) of the upper end and of the middle of a body, in the upper third of the scan."""
    shown = np.flatnonzero(body.any(axis=(1, 2)))
    upper = body[shown[-max(1, shown.size // 3) :]]
    rows, columns = np.flatnonzero(upper.any(axis=(0, 2))), np.flatnonzero(upper.any(axis=(0, 1)))
    return np.array([shown[-1], (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2])


_KINDS: Final[Mapping[str, Callable[[Patient, str, Mask, np.random.Generator], Mask | None]]] = {
    "shift 5 mm": _shift(5.0),
    "shift 10 mm": _shift(10.0),
    "shift 20 mm": _shift(20.0),
    "growth 5 mm": _grown(5.0),
    "growth 10 mm": _grown(10.0),
    "shrinkage": _shrunk(4.5),
    "end cut 25 %": _end_cut(0.25),
    "end cut 50 %": _end_cut(0.5),
    "missing slices": _without_slices,
    "island near": _island(10.0, 25.0),
    "island far": _island(60.0, 400.0),
    "leak": _leak,
}
