"""Solid objects that touch the patient: boards, rails and rests of plastic, blocks and wedges of foam.

An opening cannot separate them, because they are as thick as a limb. They are recognised by what they are
made of. Dense foam and wood lie between air and fat, where no thick tissue lies. A board, a rail or a rest of
plastic keeps its HU along the couch, and its surface its place; of a patient only inner organs keep their HU,
while skin, fat and muscle change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.body.blocks import FACES, Blocks, Slices, grown_within, opened, opposite, shared_faces
from orgseg_node.core.body.thickness import as_thick_as_seen
from orgseg_node.core.geometry import Box
from orgseg_node.core.volume import Mask

_FOAM_HU: Final = (-330.0, -150.0)  # dense foam and wood; below is air, above is fat
_FAT_HU: Final = (-140.0, -40.0)  # an even layer of this HU may be fat, never only an object
_OBJECT_ML: Final = 20.0
_LENGTHS_MM: Final = (
    30.0,
    48.0,
)  # the section must be constant over the longer, or over a shorter whole scan
_SMOOTH_MM: Final = 16.0  # noise is averaged along the slices over this length
_RANGE_HU: Final = 70.0  # largest range of the HU of a constant section
_CLIP_HU: Final = (-300, 600)
_DEEP_MM: Final = 28.0  # an object reaches at most so far from its surface in air
_AIR_HU: Final = -900  # air that a slice encloses, as in a hollow couch, but not a lung
_IN_AIR: Final = 0.2  # smallest fraction of an object's faces that lie in air
_DOUBTFUL: Final = 0.1  # ... above which an object stays, with a finding
_MOST: Final = 0.5  # an object is at most this fraction of all tissue
_PHANTOM_IN_AIR: Final = 0.7  # smallest fraction of the faces of a phantom that lie in air, around or inside
_SIMILAR_HU: Final = 60.0  # blocks next to an object with nearly its HU belong to it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignObjects:
    """Solid objects that are not the patient.

    Attributes
    ----------
    mask : (K, J, I) bool on the coarse grid
    doubtful_ml : volume of what may be an object, but stays in the body
    """

    mask: Mask
    doubtful_ml: float


def foreign_objects(low: Mask, hu: NDArray[np.int16], outside: Mask, blocks: Blocks) -> ForeignObjects:
    """The solid objects beside the patient.

    Parameters
    ----------
    low : (K, J, I) bool, blocks of tissue
    hu : (K, J, I) HU of the blocks
    outside : (K, J, I) bool, blocks of air around the patient
    blocks : the coarse grid
    """
    air = ~low & (outside | (hu < _AIR_HU))
    found = np.zeros_like(low)
    doubtful = 0.0
    for labels, in_air, beyond in (_foam(low, hu, air), _constant(low, hu, air, blocks)):
        if in_air.size < 2:
            continue
        sizes = np.bincount(labels.ravel(), minlength=in_air.size) * blocks.ml
        for number in np.flatnonzero((sizes >= _OBJECT_ML) & (in_air > _DOUBTFUL)):
            region = (labels == number) & ~found
            if not region.any():
                continue  # found as foam
            if in_air[number] > _IN_AIR and _leaves_a_patient(low & ~found, region):
                found |= region | _fringe(region, low & ~beyond, hu)
            else:
                doubtful += float(np.count_nonzero(region)) * blocks.ml
    return ForeignObjects(mask=found, doubtful_ml=doubtful)


_Regions = tuple[NDArray[np.int32], NDArray[np.float64], Mask]


def _no_regions(shape: tuple[int, ...]) -> _Regions:
    return np.zeros(shape, dtype=np.int32), np.zeros(1), np.zeros(shape, dtype=np.bool_)


def _foam(low: Mask, hu: NDArray[np.int16], air: Mask) -> _Regions:
    """Thick regions with the HU of dense foam, up to their surface.

    Returns
    -------
    (K, J, I) number of each block's region, the fraction of its faces that lie in air by number, and no block
    """
    light = low & (hu < _FOAM_HU[1])
    firm = opened(light, (1, 1, 1))
    if not firm.any():
        return _no_regions(low.shape)
    box = Box.around(firm, margin=(3, 3, 3)).slices
    mean = ndimage.uniform_filter(hu[box].astype(np.float32), size=3)
    thick = opened(low[box] & (mean > _FOAM_HU[0]) & (mean < _FOAM_HU[1]), (1, 1, 1))
    foam = np.zeros_like(low)
    foam[box] = grown_within(thick, light[box], 2)
    labels, count = ndimage.label(foam, FACES)
    in_air = shared_faces(labels, count, air) / np.maximum(shared_faces(labels, count, ~foam), 1)
    return labels, in_air, np.zeros_like(low)


def _length(count: int, step_mm: float) -> int:
    """The number of slices over which a section must be constant; 0 if the scan is too short."""
    length = round(min(_LENGTHS_MM[1], count * step_mm) / step_mm)
    return length if length >= 3 and length * step_mm >= _LENGTHS_MM[0] else 0


def _constant(low: Mask, hu: NDArray[np.int16], air: Mask, blocks: Blocks) -> _Regions:
    """Thick regions whose HU is not that of fat and, like their surface in air, the same along the slices.

    Returns
    -------
    (K, J, I) number of each block's region, the fraction of its faces that stay in air by number, and the
    blocks beyond the thickness of the regions
    """
    length = _length(low.shape[0], blocks.spacing_mm[0])
    if not length:
        return _no_regions(low.shape)
    even = _even(low, hu, length, min(max(1, round(_SMOOTH_MM / blocks.spacing_mm[0])), length - 2))
    surface = np.zeros_like(low)
    for here, face in _lasting_faces(even, air, length):
        surface[here] |= face
    even &= ~_phantom(even, low) if surface.any() else False
    surface &= even
    if not surface.any():
        return _no_regions(low.shape)
    deep = round(_DEEP_MM / blocks.spacing_mm[2])
    regions = grown_within(surface, even, deep, axes=(1, 2))
    regions, beyond = as_thick_as_seen(regions, air, _lasting_faces(regions, air, length), deep)
    labels, count = ndimage.label(regions, FACES)
    faces = np.zeros(count + 1, dtype=np.int64)
    for here, face in _lasting_faces(regions, air, length):
        faces += np.bincount(labels[here][face], minlength=count + 1)
    return labels, faces / np.maximum(shared_faces(labels, count, ~regions), 1), beyond


def _even(low: Mask, hu: NDArray[np.int16], length: int, mean_of: int) -> Mask:
    """Thick tissue whose HU stays the same along the slices, except fat.

    Parameters
    ----------
    low : (K, J, I) bool, blocks of tissue
    hu : (K, J, I) HU of the blocks
    length : number of slices over which it is the same
    mean_of : number of slices over which noise is averaged
    """
    clipped = np.clip(hu, *_CLIP_HU)
    size = low.shape[0] - mean_of + 1
    sums = clipped[:size].copy()
    for n in range(1, mean_of):
        sums += clipped[n : n + size]
    span = length - mean_of + 1  # so many sums lie within the length
    spread = _running(np.maximum, sums, span) - _running(np.minimum, sums, span)
    starts = (spread < mean_of * _RANGE_HU) & _running(np.logical_and, low, length)
    return opened(_whole_stretches(starts, length) & ~((hu > _FAT_HU[0]) & (hu < _FAT_HU[1])), (1, 1, 1))


def _whole_stretches(starts: Mask, length: int) -> Mask:
    """All blocks of the stretches that start here."""
    padded = np.pad(starts, ((length - 1, length - 1), (0, 0), (0, 0)))
    return _running(np.logical_or, padded, length)


def _lasting_faces(region: Mask, air: Mask, length: int) -> Iterator[tuple[Slices, Mask]]:
    """Faces between a region and air that stay in their place over a number of slices.

    Parameters
    ----------
    region : (K, J, I) bool
    air : (K, J, I) bool
    length : number of slices

    Yields
    ------
    for each direction in the slice an index into the region, and the blocks there that have such a face
    """
    for axis in (1, 2):
        for here, there in opposite(axis):
            face = region[here] & air[there]
            yield here, _whole_stretches(_running(np.logical_and, face, length), length)


def _running(combine: np.ufunc, values: NDArray[Any], length: int) -> NDArray[Any]:
    """``combine`` of each stretch of ``length`` values along the first axis, by doubling."""
    done = 1
    while done < length:
        more = min(done, length - done)
        values = combine(values[: values.shape[0] - more], values[more:])
        done += more
    return values


def _phantom(even: Mask, low: Mask) -> Mask:
    """A region that makes up most of the tissue and lies in air: a phantom is as even as a board.

    A board and the even parts of the patient on it may make up most of the tissue too, but most of their
    surface adjoins the rest of the patient.
    """
    labels, count = ndimage.label(even, FACES)
    large = np.bincount(labels.ravel(), minlength=count + 1) > _MOST * np.count_nonzero(low)
    large[0] = False
    if large.any():
        labels = np.where(large[labels], labels, 0)
        in_air = shared_faces(labels, count, ~low) / np.maximum(shared_faces(labels, count, ~even), 1)
        large &= in_air > _PHANTOM_IN_AIR
    return np.asarray(large[labels])


def _leaves_a_patient(low: Mask, region: Mask) -> bool:
    """Whether more of the tissue is left than taken."""
    return bool(int(np.count_nonzero(region)) < _MOST * np.count_nonzero(low))


def _fringe(region: Mask, low: Mask, hu: NDArray[np.int16]) -> Mask:
    """Blocks around an object with nearly its HU, and those of its ends along the slices."""
    box = Box.around(region)
    k, j, i = (slice(max(s.start - 3, 0), s.stop + 3) for s in box.slices)
    inner = region[k, j, i]
    level = float(np.median(hu[k, j, i][inner]))
    like = low[k, j, i] & (abs(hu[k, j, i] - level) < _SIMILAR_HU)
    fringe = np.zeros_like(region)
    fringe[k, j, i] = grown_within(inner, like, 1)
    return fringe
