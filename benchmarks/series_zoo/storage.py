"""Series of awkward encoding: HU scales, padding, transfer syntaxes, damaged files, texts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks.series_zoo.case import ZooCase, exact, refused
from tests.support.ct.phantom import uid
from tests.support.ct.zoo import Field, Scan, Stack, decimal, images, write

_SLOPES = {k: (1.0 + 0.25 * (k % 5), -1024.0 - 7 * (k % 3)) for k in range(20)}


def _overlay_bits(folder: Path) -> list[Stack]:
    """Bits above Bits Stored that belong to an overlay, as in old files."""

    def change(_: int, dataset: Dataset) -> None:
        words = np.frombuffer(dataset.PixelData, "<u2").copy()
        words[::7] |= 0x5000
        dataset.PixelData = words.tobytes()

    return [write(folder, Scan(bits_stored=12), change)]


def _lossy(folder: Path, *, marked: bool) -> list[Stack]:
    folder.mkdir(parents=True)
    planes = []
    for k, (dataset, plane) in enumerate(images(Scan())):
        dataset.compress(JPEG2000, j2k_cr=[8.0], generate_instance_uid=False)
        if marked:
            dataset.LossyImageCompression = "01"
        dataset.save_as(folder / f"{k}.dcm", enforce_file_format=True)
        planes.append(plane)
    return [Stack(planes=tuple(planes), field=Field())]


def _damaged_file(folder: Path, content: bytes | None) -> list[Stack]:
    """The file of the middle slice, truncated or replaced."""
    stack = write(folder, Scan())
    path = sorted(folder.iterdir())[10]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    return [stack]


def _with_a_text_file(folder: Path) -> list[Stack]:
    stack = write(folder, Scan())
    (folder / "README.txt").write_text("Burnt by the archive.\n")
    (folder / "Thumbs.db").write_bytes(bytes(range(256)))
    return [stack]


def _without_pixels(folder: Path) -> list[Stack]:
    def change(k: int, dataset: Dataset) -> None:
        if k == 5:
            del dataset.PixelData

    return [write(folder, Scan(), change)]


def _private_syntax(folder: Path) -> list[Stack]:
    stack = write(folder, Scan())
    for path in folder.iterdir():
        content = path.read_bytes()
        # GE's private syntax in a field of the same length as that of explicit VR little endian
        old, new = b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0"
        path.write_bytes(content.replace(old, new, 1))
    return [stack]


def _with_an_icon(folder: Path) -> list[Stack]:
    """An icon image, which has pixel data of its own, before that of the slice."""

    def add(_: int, dataset: Dataset) -> None:
        icon = Dataset()
        icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
        icon.Rows = icon.Columns = 64
        icon.BitsAllocated, icon.BitsStored, icon.HighBit, icon.PixelRepresentation = 8, 8, 7, 0
        icon.add_new("PixelData", "OW", bytes(64 * 64))
        dataset.IconImageSequence = [icon]

    return [write(folder, Scan(), add)]


def _without_part_10_header(folder: Path) -> list[Stack]:
    stack = write(folder, Scan(syntax=ImplicitVRLittleEndian))
    for path in folder.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])
    return [stack]


def _other_study(folder: Path) -> list[Stack]:
    def change(k: int, dataset: Dataset) -> None:
        if k > 9:
            dataset.StudyInstanceUID = uid("zoo", "another study")

    return [write(folder, Scan(), change)]


def _uids_in_the_meta_header_only(folder: Path) -> list[Stack]:
    def change(_: int, dataset: Dataset) -> None:
        dataset.SOPInstanceUID = dataset.SOPClassUID = ""

    folder.mkdir(parents=True)
    planes = []
    for k, (dataset, plane) in enumerate(images(Scan())):
        change(k, dataset)
        dataset.save_as(folder / f"{k}.dcm", enforce_file_format=False)
        planes.append(plane)
    return [Stack(planes=tuple(planes), field=Field())]


def _lookup_table(folder: Path) -> list[Stack]:
    def change(_: int, dataset: Dataset) -> None:
        table = Dataset()
        table.add_new("LUTDescriptor", "US", [4, 0, 16])
        table.ModalityLUTType = "HU"
        table.add_new("LUTData", "US", [0, 1, 2, 3])
        dataset.ModalityLUTSequence = [table]

    return [write(folder, Scan(), change)]


def _named(charset: str | list[str], name: str, encoding: bytes) -> ZooCase:
    scan = Scan(values={"SpecificCharacterSet": charset, "PatientName": name})
    label = charset if isinstance(charset, str) else charset[-1]

    def build(folder: Path) -> list[Stack]:
        return [replace(write(folder, scan), patient_name=encoding)]

    return exact(f"names in {label}", build)


_PADDED = Field(padded=True)

STORAGE: tuple[ZooCase, ...] = (
    exact("slope and intercept differ from slice to slice", Scan(slopes=_SLOPES)),
    exact("slope 0.5, intercept -1000.5", Scan(slope=0.5, intercept=-1000.5)),
    exact("signed 16 bits", Scan(signed=True, intercept=0.0)),
    exact("signed 12 bits", Scan(signed=True, bits_stored=12, intercept=1000.0)),
    exact("unsigned 12 bits", Scan(bits_stored=12)),
    exact("12 bits, overlay in the bits above", _overlay_bits),
    exact("padding -2000", Scan(signed=True, intercept=0.0, shows=_PADDED, padding=-2000)),
    exact("padding 0, unsigned", Scan(shows=_PADDED, padding=0)),
    exact("padding 63536 outside of 12 bits", Scan(bits_stored=12, shows=_PADDED, padding=63536)),
    exact(
        "padding range -3024 to -2000",
        Scan(signed=True, intercept=0.0, shows=_PADDED, padding=-3024, padding_limit=-2000),
    ),
    exact(
        "padding in the HU of tissue",
        Scan(signed=True, intercept=0.0, shows=_PADDED, padding=32767),
    ),
    exact(
        "padding range 3000 to 3500, the HU of metal",
        Scan(signed=True, intercept=0.0, shows=_PADDED, padding=3000, padding_limit=3500),
    ),
    exact("metal of 8000 HU", Scan(shows=Field(metal=True))),
    exact(
        "511 x 509 matrix", Scan(rows=509, columns=511, spacing_mm=(0.25, 0.25), heights_mm=(-6, -3, 0, 3))
    ),
    exact("70 x 50 matrix", Scan(rows=50, columns=70)),
    exact("implicit VR", Scan(syntax=ImplicitVRLittleEndian)),
    exact("big endian", Scan(syntax=ExplicitVRBigEndian)),
    exact("deflated", Scan(syntax=DeflatedExplicitVRLittleEndian)),
    exact("RLE", Scan(syntax=RLELossless)),
    exact("JPEG-LS", Scan(syntax=JPEGLSLossless)),
    exact("JPEG 2000 lossless", Scan(syntax=JPEG2000Lossless)),
    exact("JPEG lossless", Scan(syntax=JPEGLosslessSV1)),
    exact(
        "JPEG 2000 lossless, signed 12 bits",
        Scan(syntax=JPEG2000Lossless, signed=True, bits_stored=12, intercept=1000.0),
    ),
    exact("RLE, gantry tilt", Scan(syntax=RLELossless, shear=(0.0, math.tan(math.radians(10))))),
    refused("lossy JPEG 2000", lambda folder: _lossy(folder, marked=True), "INPUT_LOSSY"),
    refused(
        "lossy JPEG 2000, not marked as lossy", lambda folder: _lossy(folder, marked=False), "INPUT_LOSSY"
    ),
    refused("private transfer syntax", _private_syntax, "INPUT_UNSUPPORTED_SYNTAX"),
    refused("half-written file", lambda folder: _damaged_file(folder, None), "INPUT_TRUNCATED"),
    refused("file of 0 bytes", lambda folder: _damaged_file(folder, b""), "INPUT_TRUNCATED"),
    refused("file full of zeros", lambda folder: _damaged_file(folder, bytes(9000)), "INPUT_NOT_DICOM"),
    refused("a slice without pixel data", _without_pixels, "INPUT_NO_PIXELS"),
    exact("other files beside the slices", _with_a_text_file),
    refused(
        "no Frame of Reference UID", Scan(values={"FrameOfReferenceUID": None}), "INPUT_MISSING_ATTRIBUTE"
    ),
    refused(
        "no Image Orientation", Scan(values={"ImageOrientationPatient": None}), "INPUT_MISSING_ATTRIBUTE"
    ),
    refused("no Rescale Intercept", Scan(values={"RescaleIntercept": None}), "INPUT_MISSING_ATTRIBUTE"),
    refused("Rescale Type is not HU", Scan(values={"RescaleType": "OD"}), "INPUT_HU_RANGE"),
    refused("MONOCHROME1", Scan(values={"PhotometricInterpretation": "MONOCHROME1"}), "INPUT_PIXEL_FORMAT"),
    exact(
        "no Slice Thickness, no Instance Number",
        Scan(values={"SliceThickness": None, "InstanceNumber": None}),
    ),
    exact(
        "wrong Slice Thickness and Slice Location",
        Scan(values={"SliceThickness": decimal(10), "SliceLocation": decimal(5)}),
    ),
    _named("ISO_IR 100", "Åström^Björn", "Åström^Björn".encode("latin-1")),
    _named("ISO_IR 144", "Люкceмбypг", "Люкceмбypг".encode("iso8859_5")),
    _named("ISO_IR 192", "Wang^XiaoDong=王^小东", "Wang^XiaoDong=王^小东".encode()),
    _named(
        ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
    ),
    _named(
        ["", "ISO 2022 IR 149"],
        "Hong^Gildong=洪^吉洞",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
    ),
)
