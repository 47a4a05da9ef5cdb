"""An image has the same hash in every uncompressed encoding, and another one when anything of it changes."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from orgseg_node.dicom.reading import part10
from orgseg_node.dicom.reading.image_hash import image_hash


@pytest.fixture
def image(ct_folder: Path) -> Path:
    """A CT image with nested sequences and an overlay."""
    path = ct_folder / "slice_005.dcm"
    dataset = dcmread(path)
    code, item = Dataset(), Dataset()
    code.CodeValue, code.CodeMeaning = "1", "odd"
    item.ReferencedSOPInstanceUID = "1.2.3"
    item.PurposeOfReferenceCodeSequence = Sequence([code])
    dataset.ReferencedImageSequence = Sequence([item, item])
    dataset.add_new(0x60000040, "CS", "G")
    dataset.save_as(path)
    return path


def copy(image: Path, name: str, change: Callable[[FileDataset], None], **options: bool) -> Path:
    dataset = dcmread(image)
    change(dataset)
    path = image.with_name(name)
    dcmwrite(path, dataset, **options)
    return path


def in_syntax(syntax: UID) -> Callable[[FileDataset], None]:
    def change(dataset: FileDataset) -> None:
        dataset.decode()
        dataset.file_meta.TransferSyntaxUID = syntax

    return change


def of_undefined_length(dataset: Dataset) -> None:
    for element in dataset.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True


def with_padding_and_private(dataset: FileDataset) -> None:
    dataset.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "LO", "of their own")
    dataset.add_new(0xFFFCFFFC, "OB", b"\0" * 64)


def received(image: Path) -> Path:
    """The file as the node stores it when it comes by C-STORE."""
    dataset = dcmread(image)
    encoded = BytesIO()
    syntax = dataset.file_meta.TransferSyntaxUID
    encoded.write(part10.split_part10(image.read_bytes())[0])
    header = part10.read_header(encoded.getvalue(), syntax)
    path = image.with_name("received.dcm")
    path.write_bytes(part10.part10(encoded.getvalue(), header, syntax))
    assert path.read_bytes() != image.read_bytes()
    return path


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_the_encoding_of_the_dataset_is_no_part_of_it(image: Path, syntax: UID) -> None:
    assert image_hash(copy(image, "other.dcm", in_syntax(syntax))) == image_hash(image)


@pytest.mark.parametrize("change", [of_undefined_length, with_padding_and_private])
def test_lengths_padding_and_private_attributes_are_no_part_of_it(
    image: Path, change: Callable[[FileDataset], None]
) -> None:
    other = copy(image, "other.dcm", change)
    assert other.read_bytes() != image.read_bytes()
    assert image_hash(other) == image_hash(image)


def test_the_file_meta_information_is_no_part_of_it(image: Path) -> None:
    assert image_hash(received(image)) == image_hash(image)


def other_pixel(dataset: FileDataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[-1] ^= 1
    dataset.PixelData = bytes(pixels)


def other_nested_value(dataset: FileDataset) -> None:
    dataset.ReferencedImageSequence[1].PurposeOfReferenceCodeSequence[0].CodeMeaning = "even"


def one_item_less(dataset: FileDataset) -> None:
    del dataset.ReferencedImageSequence[1]


def other_name(dataset: FileDataset) -> None:
    dataset.PatientName = "Other^Patient"


def value_moved_to_the_next_attribute(dataset: FileDataset) -> None:
    dataset.SeriesDescription, dataset.StudyDescription = (
        "",
        str(dataset.get("SeriesDescription", "x") or "x"),
    )


@pytest.mark.parametrize(
    "change", [other_pixel, other_nested_value, one_item_less, other_name, value_moved_to_the_next_attribute]
)
def test_every_change_of_attributes_or_pixels_changes_it(
    image: Path, change: Callable[[FileDataset], None]
) -> None:
    assert image_hash(copy(image, "other.dcm", change)) != image_hash(image)


def unchanged(_dataset: FileDataset) -> None:
    pass


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_pixels_count_as_they_are(image: Path, syntax: UID) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.compress(syntax, generate_instance_uid=False)

    packed = copy(image, "packed.dcm", change)
    assert image_hash(packed) == image_hash(copy(packed, "again.dcm", unchanged))
    assert image_hash(packed) != image_hash(image)

    content = bytearray(packed.read_bytes())
    content[-20] ^= 1
    packed.write_bytes(content)
    assert image_hash(packed) != image_hash(image.with_name("again.dcm"))


def test_what_follows_the_pixel_data_may_be_damaged(image: Path) -> None:
    before = image_hash(image)
    with image.open("ab") as file:
        file.write(b"\xfc\xff\xfc\xffOB\0\0\xff")
    assert image_hash(image) == before
