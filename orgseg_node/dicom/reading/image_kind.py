"""Which files are CT slices, and which of those can be used."""

from __future__ import annotations

from enum import StrEnum

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)

from orgseg_node.dicom.reading.files import (
    integer,
    optional_integer,
    required_text,
    text,
    texts,
    uid_name,
    whole_text,
)
from orgseg_node.errors import (
    LossyCompression,
    MissingAttribute,
    MultiframeImage,
    NoPixelData,
    UnsupportedPixels,
    UnsupportedSyntax,
    WrongModality,
)

SUPPORTED_SYNTAXES = frozenset(
    {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
        JPEG2000,  # unless the header states lossy compression
    }
)
# JPEG processes with a discrete cosine transform, JPEG-LS near-lossless (PS3.6, A; several retired)
_LOSSY_SYNTAXES = frozenset(
    {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 52, 53, 54, 55, 56, 59, 60, 61, 62, 63, 64, 81)}
)
MULTIFRAME_CT = {EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
_SCREEN = {"SECONDARY", "SCREEN SAVE"}  # values of Image Type


class Reason(StrEnum):
    """Why a file was set aside: it belongs to no CT volume, which is not an error."""

    NOT_DICOM = "not a DICOM file"
    LOCALIZER = "localizer"
    CAPTURE = "secondary capture"
    COPY = "the same image once more"
    OTHER_GEOMETRY = "image of another direction, size or place than its series"
    OTHER_MODALITY = "image of another modality"
    OTHER_OBJECT = "no image (directory, report, structure set or the like)"


def reason_aside(dataset: FileDataset) -> Reason | None:
    """Why a file is no CT slice; None if it is or may be one."""
    sop_class = sop_uid(dataset, "SOPClassUID")
    if sop_class == CTImageStorage:
        if "LOCALIZER" in kinds(dataset):
            return Reason.LOCALIZER
        return Reason.CAPTURE if _is_screen(dataset) else None
    if sop_class in MULTIFRAME_CT:
        return None
    if not sop_class:
        return Reason.OTHER_OBJECT
    name = uid_name(sop_class)
    if "Secondary Capture" in name:
        return Reason.CAPTURE
    is_image = "Image Storage" in name and "Rows" in dataset
    return Reason.OTHER_MODALITY if is_image else Reason.OTHER_OBJECT


def _is_screen(dataset: Dataset) -> bool:
    """Whether a CT image is a page, such as a dose report: without any position and no original slice."""
    if any(texts(dataset, keyword) for keyword in ("ImagePositionPatient", "ImageOrientationPatient")):
        return False
    is_grey = text(dataset, "PhotometricInterpretation") in {"", "MONOCHROME2"}
    return bool(kinds(dataset) & _SCREEN) or not is_grey or optional_integer(dataset, "BitsAllocated") == 8


def kinds(dataset: Dataset) -> set[str]:
    """The values of Image Type in capitals."""
    return {value.upper() for value in texts(dataset, "ImageType")}


def sop_uid(dataset: FileDataset, keyword: str) -> str:
    """A SOP UID of the dataset, or if it is empty that of the file meta information (PS3.10, 7.1)."""
    return whole_text(dataset, keyword) or whole_text(dataset.file_meta, f"MediaStorage{keyword}")


def refuse_unusable(dataset: FileDataset, *, has_pixels: bool) -> None:
    """Refuse a CT image without lossless 16-bit grey values.

    Parameters
    ----------
    dataset : its header
    has_pixels : whether pixel data follow the header

    Raises
    ------
    InputError
        The subclass states what is wrong.
    """
    if text(dataset, "Modality").upper() != "CT":
        raise WrongModality
    is_multiframe = sop_uid(dataset, "SOPClassUID") in MULTIFRAME_CT
    if not is_multiframe and (integer(dataset, "NumberOfFrames") or 1) > 1:
        raise MultiframeImage
    if not has_pixels:
        raise NoPixelData
    syntax = required_text(dataset.file_meta, "TransferSyntaxUID")
    if syntax in _LOSSY_SYNTAXES or "01" in texts(dataset, "LossyImageCompression"):
        raise LossyCompression
    if syntax not in SUPPORTED_SYNTAXES:
        raise UnsupportedSyntax(f"It is {uid_name(syntax) or 'none that DICOM defines'}.")
    _refuse_no_hu(dataset)


def _refuse_no_hu(dataset: FileDataset) -> None:
    if text(dataset, "PhotometricInterpretation") != "MONOCHROME2":
        raise UnsupportedPixels("The Photometric Interpretation is not MONOCHROME2.")
    samples = integer(dataset, "SamplesPerPixel")
    if samples != 1:
        raise UnsupportedPixels(
            "Samples per Pixel is missing." if samples is None else "Samples per Pixel is not 1."
        )
    if "ModalityLUTSequence" in dataset:
        raise UnsupportedPixels("HU are given by a lookup table.")
    bits = integer(dataset, "BitsStored") or 0
    if (
        integer(dataset, "BitsAllocated") != 16
        or not 8 <= bits <= 16
        or integer(dataset, "HighBit") != bits - 1
    ):
        raise UnsupportedPixels("Bits Allocated, Bits Stored and High Bit do not fit together.")
    if integer(dataset, "PixelRepresentation") not in {0, 1}:
        raise MissingAttribute("Pixel Representation.")
