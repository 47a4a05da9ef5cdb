"""Series of awkward geometry: tilt, gaps, duplicates, orientations."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from benchmarks.series_zoo.case import ZooCase, exact, parts, refused
from tests.support.ct import zoo
from tests.support.ct.phantom import uid
from tests.support.ct.zoo import Scan, Stack, decimal, regular, turned, write


def _tilted(degrees: float) -> tuple[float, float]:
    return (0.0, math.tan(math.radians(degrees)))


def _jitter(amplitude_mm: float) -> dict[int, tuple[float, float, float]]:
    random = np.random.default_rng(5)
    return {k: (*random.uniform(-amplitude_mm, amplitude_mm, 3).tolist(),) for k in range(20)}


def _without(*dropped: int) -> tuple[float, ...]:
    return tuple(h for k, h in enumerate(regular(20)) if k not in dropped)


def _reversed_numbers(k: int, dataset: Dataset) -> None:
    dataset.InstanceNumber = 100 - k


def _small_rotations() -> dict[int, zoo.Orientation]:
    random = np.random.default_rng(6)
    found: dict[int, zoo.Orientation] = {}
    for k in range(20):
        a, b, c, d, e, f = (np.asarray(zoo.HFS) + random.uniform(-1e-5, 1e-5, 6)).tolist()
        found[k] = (a, b, c, d, e, f)
    return found


def _two_copies(folder: Path) -> list[Stack]:
    return _with_copies(folder, {7, 8})


def _all_copies(folder: Path) -> list[Stack]:
    return _with_copies(folder, set(range(20)))


def _with_copies(folder: Path, copied: set[int]) -> list[Stack]:
    """Some slices once more, the same pixels under new SOP Instance UIDs."""
    stack = write(folder, Scan())

    def rename(k: int, dataset: Dataset) -> bool:
        dataset.SOPInstanceUID = uid("zoo", "copy", k)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = 101 + k
        return k in copied

    write(folder, Scan(), rename)
    planes = tuple(
        replace(plane, keys=plane.keys | {(uid("zoo", "copy", k), None)}) if k in copied else plane
        for k, plane in enumerate(stack.planes)
    )
    return [replace(stack, planes=planes)]


def _sent_twice(folder: Path) -> list[Stack]:
    stack = write(folder, Scan())
    for path in list(folder.iterdir()):
        shutil.copy(path, folder / f"copy-of-{path.name}")
    return [stack]


def _one_uid_two_images(folder: Path) -> list[Stack]:
    stack = write(folder, Scan())

    def change(k: int, dataset: Dataset) -> bool:
        dataset.PixelData = dataset.PixelData[::-1]
        dataset.SeriesNumber = 3  # another file name
        return k == 9

    write(folder, Scan(), change)
    return [stack]


def _first_is_missing(folder: Path) -> list[Stack]:
    return [write(folder, Scan(), lambda k, _: k > 0)]


def _displaced(folder: Path, k: int, position: tuple[object, object, object]) -> list[Stack]:
    """One slice with a wrong position in its header."""

    def change(number: int, dataset: Dataset) -> None:
        if number == k:
            dataset.ImagePositionPatient = [str(v) for v in position]

    return [write(folder, Scan(), change)]


def _swapped(folder: Path) -> list[Stack]:
    def change(k: int, dataset: Dataset) -> None:
        if k == 6:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [z, y, x]

    return [write(folder, Scan(), change)]


def _not_a_number(folder: Path) -> list[Stack]:
    stack = write(folder, Scan())
    path = min(folder.iterdir())
    # as bytes, since pydicom does not write such a value
    content = path.read_bytes()
    start = content.index(b"\x20\x00\x32\x00DS")
    length = int.from_bytes(content[start + 6 : start + 8], "little")
    value = b"nan\\nan\\nan".ljust(length)
    path.write_bytes(content[: start + 8] + value[:length] + content[start + 8 + length :])
    return [stack]


def _other_spacing(folder: Path) -> list[Stack]:
    def change(k: int, dataset: Dataset) -> None:
        if k == 6:
            dataset.PixelSpacing = [decimal(2.1), decimal(2.1)]

    return [write(folder, Scan(), change)]


def _in_long_numbers(folder: Path) -> list[Stack]:
    """Positions and spacings in more characters than DICOM allows, as some systems write them."""

    def change(_: int, dataset: Dataset) -> None:
        for keyword in ("ImagePositionPatient", "PixelSpacing"):
            text = "\\".join(f"{float(v):+.17f}" for v in dataset[keyword].value)
            tag = Tag(keyword)
            dataset[tag] = DataElement(tag, "DS", text, already_converted=True)

    return [write(folder, Scan(), change)]


def _all_in_one_place(folder: Path) -> list[Stack]:
    """Every slice has the position of the first; the true position is only in Slice Location."""

    def change(k: int, dataset: Dataset) -> None:
        dataset.SliceLocation = decimal(3.0 * k)
        dataset.ImagePositionPatient = [-63, -63, 0]

    return [write(folder, Scan(), change)]


def _other_patient_position(folder: Path) -> list[Stack]:
    def change(k: int, dataset: Dataset) -> None:
        if k > 9:
            dataset.PatientPosition = "FFS"

    stack = write(folder, Scan(), change)
    return [stack.without(*range(10, 20)), stack.without(*range(10))]


def _rounded(orientation: zoo.Orientation, decimals: int) -> zoo.Orientation:
    a, b, c, d, e, f = (round(v, decimals) for v in orientation)
    return a, b, c, d, e, f


_DRIFTING = {k: (0.02 * (k - 10) ** 2, 0.0, 0.0) for k in range(20)}
_STEPS = tuple(np.cumsum([0, *[4.22] * 7, 1.14, *[7.38] * 6]) - 37.0)

GEOMETRY: tuple[ZooCase, ...] = (
    exact("regular", Scan()),
    exact("reversed Instance Number", lambda folder: [write(folder, Scan(), _reversed_numbers)]),
    exact("non-square pixels", Scan(spacing_mm=(1.25, 1.8))),
    exact("1 slice missing", Scan(heights_mm=_without(8))),
    exact("4 slices missing together", Scan(heights_mm=_without(8, 9, 10, 11))),
    exact("slices missing at irregular places", Scan(heights_mm=_without(3, 8, 9, 15))),
    exact("first slice missing", _first_is_missing),
    exact(
        "spacing changes from 2.5 to 5 mm",
        Scan(heights_mm=(*np.arange(-32.5, 2.4, 2.5), *np.arange(2.5, 33, 5.0))),
    ),
    exact(
        "spacing changes from 2 to 3.3 mm",
        Scan(heights_mm=(*np.arange(-30, -0.1, 2.0), *np.arange(1.3, 31, 3.3))),
    ),
    exact("gantry tilt 15 degrees", Scan(shear=_tilted(15))),
    exact("gantry tilt -22.5 degrees, prone", Scan(shear=_tilted(-22.5), orientation=zoo.HFP)),
    exact("gantry tilt 18.5 degrees, uneven steps", Scan(heights_mm=_STEPS, shear=_tilted(18.5))),
    exact("gantry tilt, a slice missing", Scan(heights_mm=_without(8), shear=_tilted(12))),
    exact(
        "Gantry/Detector Tilt of 15 degrees without a tilt", Scan(values={"GantryDetectorTilt": decimal(15)})
    ),
    exact("position jitter 0.02 mm", Scan(shifts_mm=_jitter(0.02))),
    exact("position jitter 0.1 mm", Scan(shifts_mm=_jitter(0.1))),
    exact("orientation jitter 1e-5", Scan(orientations=_small_rotations())),
    exact(
        "0.625 mm apart, positions in steps of 0.1 mm",
        Scan(heights_mm=[round(h, 1) for h in regular(40, 0.625)]),
    ),
    exact("numbers of more than 16 characters", _in_long_numbers),
    exact(
        "oblique 10 degrees, orientation in 4 decimals",
        Scan(orientation=_rounded(turned(zoo.HFS, 10, (1, 2, 0.5)), 4)),
    ),
    exact(
        "oblique 10 degrees, orientation in 3 decimals",
        Scan(orientation=_rounded(turned(zoo.HFS, 10, (1, 0, 0)), 3)),
    ),
    exact("overlapping slices", Scan(heights_mm=regular(30, 2.0), values={"SliceThickness": decimal(5)})),
    exact("slices 0.4 mm apart", Scan(heights_mm=regular(40, 0.4))),
    exact("HFP", Scan(orientation=zoo.HFP, values={"PatientPosition": "HFP"})),
    exact("HFDL", Scan(orientation=zoo.HFDL, values={"PatientPosition": "HFDL"})),
    exact("HFDR", Scan(orientation=zoo.HFDR, values={"PatientPosition": "HFDR"})),
    exact("FFS", Scan(orientation=zoo.FFS, values={"PatientPosition": "FFS"})),
    exact("FFP", Scan(orientation=zoo.FFP, values={"PatientPosition": "FFP"})),
    exact("FFDL", Scan(orientation=zoo.FFDL, values={"PatientPosition": "FFDL"})),
    exact("FFDR", Scan(orientation=zoo.FFDR, values={"PatientPosition": "FFDR"})),
    exact(
        "FFS, reversed Instance Number, a slice missing",
        lambda folder: [write(folder, Scan(orientation=zoo.FFS, heights_mm=_without(5)), _reversed_numbers)],
    ),
    exact("oblique 10 degrees", Scan(orientation=turned(zoo.HFS, 10, (1, 0, 0)))),
    exact("oblique 10 degrees about a slanted axis", Scan(orientation=turned(zoo.HFS, 10, (1, 2, 0.5)))),
    refused("oblique 40 degrees", Scan(orientation=turned(zoo.HFS, 40, (1, 0, 0))), "INPUT_NOT_AXIAL"),
    refused("coronal reformat", Scan(orientation=zoo.CORONAL), "INPUT_NOT_AXIAL"),
    exact("2 slices sent twice under new UIDs", _two_copies),
    exact("all slices sent twice under new UIDs", _all_copies),
    exact("the same files twice", _sent_twice),
    refused("one UID, two images", _one_uid_two_images, "INPUT_DUPLICATE_SLICES"),
    refused("sideways drift that is no tilt", Scan(shifts_mm=_DRIFTING), "INPUT_GANTRY_TILT", "INPUT_DRIFT"),
    refused("one slice shifted sideways by 5 mm", Scan(shifts_mm={9: (5.0, 0.0, 0.0)}), "INPUT_DRIFT"),
    refused(
        "one slice turned by 1e-3",
        Scan(orientations={9: turned(zoo.HFS, math.degrees(1e-3), (1, 0, 0))}),
        "INPUT_MIXED_GEOMETRY",
    ),
    refused("one slice with another pixel spacing", _other_spacing, "INPUT_MIXED_GEOMETRY"),
    refused("position is not a number", _not_a_number, "INPUT_INVALID_ATTRIBUTE"),
    refused("absurd position", lambda f: _displaced(f, 6, (-63, -63, "1e9")), "INPUT_IRREGULAR_SPACING"),
    refused("x and z of one slice swapped", _swapped, "INPUT_DRIFT"),
    refused(
        "gap of 150 mm",
        Scan(heights_mm=(*np.arange(-45, -14, 3.0), *np.arange(135, 166, 3.0))),
        "INPUT_IRREGULAR_SPACING",
    ),
    refused("all slices in one place", _all_in_one_place, "INPUT_DUPLICATE_SLICES"),
    parts("half of the slices feet first", _other_patient_position, "INPUT_SEVERAL_PARTS"),
    refused("2 slices", Scan(heights_mm=regular(2)), "INPUT_TOO_FEW_SLICES"),
)
