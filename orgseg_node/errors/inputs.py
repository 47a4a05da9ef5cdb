"""Input that cannot be used: received images and files."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class InputError(OrgsegError):
    """The input cannot be used."""

    code = "INPUT"
    next_step = "Run 'orgseg info' on the folder; it lists each file and why it is refused."


class NotDicom(InputError):
    """A file is not DICOM."""

    code = "INPUT_NOT_DICOM"
    next_step = "Remove the file, or export the series again as DICOM part 10 files."


class Unreadable(NotDicom):
    """The system could not read a file."""

    code = "INPUT_UNREADABLE"
    next_step = "Check the disk, and whether this user may read the file."


class TruncatedFile(InputError):
    """A file is incomplete."""

    code = "INPUT_TRUNCATED"
    next_step = "Export or send the series again."


class WrongModality(InputError):
    """The images are not CT."""

    code = "INPUT_WRONG_MODALITY"
    next_step = "Send a CT series; other modalities are not contoured."


class NoPixelData(InputError):
    """An image has no pixel data."""

    code = "INPUT_NO_PIXELS"
    next_step = "Export the series again with its pixel data."


class NotImages(InputError):
    """The files contain no axial CT images, only localizers, secondary captures or other objects."""

    code = "INPUT_NO_IMAGES"
    next_step = "Send the axial CT series itself."


class NoSeries(InputError):
    """No CT series was found."""

    code = "INPUT_EMPTY"
    next_step = "Check the path: it must be a folder with the DICOM files of one CT series."


class SeveralSeries(InputError):
    """There is more than one CT series here."""

    code = "INPUT_SEVERAL_SERIES"
    next_step = "Choose one with --series UID, or put each series into a separate folder."


class SeveralParts(InputError):
    """The series holds several volumes, such as the phases of a 4DCT."""

    code = "INPUT_SEVERAL_PARTS"
    next_step = (
        "Choose one with 'orgseg series choose', or for all such series with 'phase' in the protocol of the "
        "node, or with --part of 'orgseg segment', or send it as a separate series."
    )


class SeveralPatients(InputError):
    """There are images of more than one patient here."""

    code = "INPUT_SEVERAL_PATIENTS"
    next_step = "Separate the images by patient and try again; nothing was processed."


class MissingAttribute(InputError):
    """A DICOM attribute needed for geometry or identity is missing."""

    code = "INPUT_MISSING_ATTRIBUTE"
    next_step = "Export the series from its original source; missing values are never guessed."


class InvalidAttribute(InputError):
    """A DICOM attribute needed for geometry or identity is invalid."""

    code = "INPUT_INVALID_ATTRIBUTE"
    next_step = "Export the series from its original source; invalid values are never corrected."


class TooFewSlices(InputError):
    """The series has too few slices to be a volume."""

    code = "INPUT_TOO_FEW_SLICES"
    next_step = "Send the complete series; at least 3 slices are needed."


class MissingSlices(InputError):
    """Slices are missing inside the series."""

    code = "INPUT_MISSING_SLICES"
    next_step = "Send the missing slices, or contour it without them with 'orgseg series force'."


class DuplicateSlices(InputError):
    """Different images are at the same position, and no attribute separates them into volumes."""

    code = "INPUT_DUPLICATE_SLICES"
    next_step = "Send one phase or reconstruction only; slices are never averaged or dropped."


class IrregularSpacing(InputError):
    """A gap between slices is too wide to interpolate the anatomy."""

    code = "INPUT_IRREGULAR_SPACING"
    next_step = "Send the slices in between, or the parts on both sides of the gap as separate series."


class TiltedGantry(InputError):
    """The slices are shifted in-plane by more than any gantry tilt."""

    code = "INPUT_GANTRY_TILT"
    next_step = "Acquire or reconstruct without gantry tilt, or correct the image positions at the source."


class SidewaysDrift(InputError):
    """Slices are shifted in-plane in a way that is no gantry tilt."""

    code = "INPUT_DRIFT"
    next_step = "Export the series from its original source; its positions contradict each other."


class MixedGeometry(InputError):
    """Slices of one series differ in orientation, size, spacing or frame of reference."""

    code = "INPUT_MIXED_GEOMETRY"
    next_step = "Send only the axial reconstruction; put localizers and reformats into other series."


class NotAxial(InputError):
    """The slices are not axial."""

    code = "INPUT_NOT_AXIAL"
    next_step = "Send the axial series; planning systems misinterpret contours on other planes."


class MultiframeImage(InputError):
    """An image has several frames and is not an Enhanced CT, so the positions of the frames are unknown."""

    code = "INPUT_MULTIFRAME"
    next_step = "Export the series as single-frame CT images or as Enhanced CT."


class UnsupportedSyntax(InputError):
    """The transfer syntax of an image is not supported."""

    code = "INPUT_UNSUPPORTED_SYNTAX"
    next_step = "Configure the sender to use an uncompressed or lossless transfer syntax."


class LossyCompression(InputError):
    """An image has lossy compression, so its Hounsfield units are not exact."""

    code = "INPUT_LOSSY"
    next_step = "Send the original, losslessly stored series."


class UnsupportedPixels(InputError):
    """The pixels are not stored as 16-bit grey values like those of a CT image."""

    code = "INPUT_PIXEL_FORMAT"
    next_step = "Export the original CT images of the scanner."


class UndecodablePixels(InputError):
    """The pixel data of an image cannot be decoded."""

    code = "INPUT_UNDECODABLE"
    next_step = "Export or send the series again; the pixel data are damaged."


class TooLarge(InputError):
    """The images are larger than any CT scanner makes them."""

    code = "INPUT_TOO_LARGE"
    next_step = "Export the series again; the sizes in its header or its compressed data are damaged."


class TooManyItems(InputError):
    """A header has more elements and items than any scanner writes."""

    code = "INPUT_TOO_MANY_ITEMS"
    next_step = "Export the series again; its headers are damaged, or made to use up memory."


class HuOutOfRange(InputError):
    """The rescaled values of an image cannot be Hounsfield units."""

    code = "INPUT_HU_RANGE"
    next_step = "Check Rescale Slope and Rescale Intercept at the source."


class NotMatching(InputError):
    """The image is not the instance that the sender announced."""

    code = "INPUT_NOT_MATCHING"
    next_step = "Correct the export at the sender; request and dataset have different UIDs."


class NotStructures(InputError):
    """No list of structures can be read from the file."""

    code = "INPUT_NO_STRUCTURES"
    next_step = "Give an RT Structure Set, or a structure template (XML) as the planning system exports it."


class NotMultipart(InputError):
    """The body of the request is not the multipart body that its headers announce."""

    code = "INPUT_NOT_MULTIPART"
    next_step = (
        "Correct the sender; DICOMweb requires multipart/related with parts of type application/dicom."
    )
