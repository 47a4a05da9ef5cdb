"""The zoo's series that come in one file: Enhanced CT, and Legacy Converted Enhanced CT by highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import highdicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from tests.support.ct.phantom import uid
from tests.support.ct.zoo import Plane, Scan, Stack, images, quantum

_PER_FRAME = {
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "InstanceNumber",
    "AcquisitionTime",
    "AcquisitionDate",
}


def write_enhanced(
    folder: Path, scans: Sequence[Scan], order: Sequence[int] | None = None, *, stacks: bool = False
) -> list[Stack]:
    """Write scans as the phases of one Enhanced CT file.

    Parameters
    ----------
    folder : where to
    scans : the phases, in the same frame of reference and of the same size
    order : how the frames of each phase follow each other in the file; by height if None
    stacks : whether they are stacks of their own, not phases

    Returns
    -------
    what is true of each phase; the frame's number is in the planes' keys
    """
    folder.mkdir(parents=True, exist_ok=True)
    phases = [images(scan) for scan in scans]
    first, _ = phases[0][0]
    whole = _head(first, len(scans) * len(phases[0]))
    whole.SharedFunctionalGroupsSequence = [_shared(first)]
    frames, pixels, truth = [], [], []
    for phase, (scan, pictures) in enumerate(zip(scans, phases, strict=True), start=1):
        numbered: dict[int, Plane] = {}
        for k in order or range(len(pictures)):
            dataset, plane = pictures[k]
            frames.append(_frame(dataset, k + 1, stack=phase if stacks else 1, phase=1 if stacks else phase))
            pixels.append(dataset.PixelData)
            key = (str(whole.SOPInstanceUID), len(frames))
            numbered[k] = replace(plane, keys=frozenset({key}))
        planes = tuple(numbered[k] for k in sorted(numbered))
        truth.append(Stack(planes=planes, field=scan.shows, quantum_hu=quantum(scan)))
    _save(whole, frames, pixels, folder / "enhanced.dcm", scans[0].syntax)
    return truth


def write_concatenation(folder: Path, scan: Scan, split: int) -> Stack:
    """Write a scan as an Enhanced CT that is split into two files (PS3.3, C.7.6.16.1.3).

    Parameters
    ----------
    folder : where to
    scan : what is written
    split : number of frames in the first file
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = images(scan)
    planes: list[Plane] = []
    for part, chunk in enumerate((pictures[:split], pictures[split:]), start=1):
        whole = _head(chunk[0][0], len(chunk))
        whole.SOPInstanceUID = uid("zoo", "concatenation", part)
        whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
        whole.SOPInstanceUIDOfConcatenationSource = uid("zoo", "concatenation", "source")
        whole.ConcatenationUID = uid("zoo", "concatenation")
        whole.InConcatenationNumber, whole.InConcatenationTotalNumber = part, 2
        whole.ConcatenationFrameOffsetNumber = len(planes)
        whole.InstanceNumber = part
        whole.SharedFunctionalGroupsSequence = [_shared(chunk[0][0])]
        start = len(planes)
        planes += [
            replace(plane, keys=frozenset({(str(whole.SOPInstanceUID), n)}))
            for n, (_, plane) in enumerate(chunk, start=1)
        ]
        frames = [
            _frame(dataset, start + n, stack=1, phase=1) for n, (dataset, _) in enumerate(chunk, start=1)
        ]
        _save(whole, frames, [d.PixelData for d, _ in chunk], folder / f"part{part}.dcm", scan.syntax)
    return Stack(planes=tuple(planes), field=scan.shows, quantum_hu=quantum(scan))


def _save(whole: Dataset, frames: list[Dataset], pixels: list[bytes], path: Path, syntax: str) -> None:
    whole.PerFrameFunctionalGroupsSequence = frames
    whole.add_new("PixelData", "OW", b"".join(pixels))
    if syntax != ExplicitVRLittleEndian:
        # by pydicom: GDCM, which encodes the single images, rewrites the places of an Enhanced CT's frames
        whole.compress(syntax, generate_instance_uid=False)
    whole.save_as(path, enforce_file_format=True)


def write_legacy_converted(folder: Path, scan: Scan) -> Stack:
    """Write a scan as one Legacy Converted Enhanced CT file, made by highdicom from single images."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = images(scan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = highdicom.legacy.LegacyConvertedEnhancedCTImage(
            legacy_datasets=[dataset for dataset, _ in pictures],
            series_instance_uid=uid("zoo", scan.study, scan.series, "converted"),
            series_number=scan.number,
            sop_instance_uid=uid("zoo", scan.study, scan.series, "converted", "image"),
            instance_number=1,
        )
    whole.save_as(folder / "legacy.dcm", enforce_file_format=True)
    # which frame shows which image is read from the file: highdicom sorts them as it sees fit
    sources = [
        str(frame.ConversionSourceAttributesSequence[0].ReferencedSOPInstanceUID)
        for frame in whole.PerFrameFunctionalGroupsSequence
    ]
    planes = tuple(
        replace(
            plane, keys=frozenset({(str(whole.SOPInstanceUID), sources.index(dataset.SOPInstanceUID) + 1)})
        )
        for dataset, plane in pictures
    )
    return Stack(planes=planes, field=scan.shows, quantum_hu=quantum(scan))


def _head(first: Dataset, frames: int) -> Dataset:
    whole = Dataset()
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for element in first:
        if element.keyword not in _PER_FRAME | {"PixelData"}:
            whole.add(element)
    whole.SOPClassUID = EnhancedCTImageStorage
    whole.SOPInstanceUID = uid(first.SeriesInstanceUID, "enhanced")
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID
    whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    whole.InstanceNumber = 1
    whole.NumberOfFrames = frames
    whole.AcquisitionDateTime = "20240102101650"
    whole.VolumetricProperties = "VOLUME"
    whole.VolumeBasedCalculationTechnique = "NONE"
    organisation = Dataset()
    organisation.DimensionOrganizationUID = uid(first.SeriesInstanceUID, "dimensions")
    whole.DimensionOrganizationSequence = [organisation]
    pointers = []
    for keyword in ("StackID", "TemporalPositionIndex", "InStackPositionNumber"):
        pointer = Dataset()
        pointer.DimensionOrganizationUID = organisation.DimensionOrganizationUID
        pointer.DimensionIndexPointer = Tag(keyword)
        pointer.FunctionalGroupPointer = Tag("FrameContentSequence")
        pointers.append(pointer)
    whole.DimensionIndexSequence = pointers
    return whole


def _shared(first: Dataset) -> Dataset:
    kind = Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    kind.PixelPresentation = "MONOCHROME"
    kind.VolumetricProperties = "VOLUME"
    kind.VolumeBasedCalculationTechnique = "NONE"
    measures = Dataset()
    measures.PixelSpacing = first.PixelSpacing
    measures.SliceThickness = first.SliceThickness
    orientation = Dataset()
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared = Dataset()
    shared.CTImageFrameTypeSequence = [kind]
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    return shared


def _frame(image: Dataset, place: int, *, stack: int, phase: int) -> Dataset:
    content = Dataset()
    content.StackID = str(stack)
    content.InStackPositionNumber = place
    content.DimensionIndexValues = [stack, phase, place]
    content.FrameAcquisitionNumber = phase
    content.FrameReferenceDateTime = f"20240102{image.AcquisitionTime}"
    content.TemporalPositionIndex = phase
    position = Dataset()
    position.ImagePositionPatient = image.ImagePositionPatient
    transformation = Dataset()
    transformation.RescaleIntercept = image.RescaleIntercept
    transformation.RescaleSlope = image.RescaleSlope
    transformation.RescaleType = "HU"
    frame = Dataset()
    frame.FrameContentSequence = Items([content])
    frame.PlanePositionSequence = Items([position])
    frame.PixelValueTransformationSequence = Items([transformation])
    return frame
