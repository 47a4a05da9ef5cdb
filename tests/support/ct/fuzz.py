"""Honest series to damage, and children that read the damaged ones under limits.

A child (`tests.support.ct.fuzz_child`) is a process of its own so that a decoder that dies, hangs or grows is
seen and counted: the parent ends it, notes the case, and goes on with the next one.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom.uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from tests.support.ct.phantom import PhantomOptions, build_ct_series, ct_datasets, save, uid

_CHECKOUT = Path(__file__).resolve().parents[3]

SMALL = PhantomOptions(slices=4, rows=24, columns=24, pixel_spacing_mm=(10.0, 10.0), slice_spacing_mm=5.0)
SYNTAXES = {
    "implicit": pydicom.uid.ImplicitVRLittleEndian,
    "explicit": pydicom.uid.ExplicitVRLittleEndian,
    "big endian": pydicom.uid.ExplicitVRBigEndian,
    "deflated": pydicom.uid.DeflatedExplicitVRLittleEndian,
    "rle": pydicom.uid.RLELossless,
    "jpeg": pydicom.uid.JPEGLossless,
    "jpeg sv1": pydicom.uid.JPEGLosslessSV1,
    "jpeg-ls": pydicom.uid.JPEGLSLossless,
    "jpeg 2000 lossless": pydicom.uid.JPEG2000Lossless,
    "jpeg 2000": pydicom.uid.JPEG2000,
}
MEMORY_MB = 1536
"""What the child may take on top of what its imports take, in address space."""

CASE_S = 20.0
"""Longer than this for one case of four small slices is a hang."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one damaged file.

    Attributes
    ----------
    case : its number
    base, kind : the honest series, and the damage
    end : "accepted", the code of a refusal, or what went wrong: "CRASH ...", "HANG", "UNCODED ..."
    seconds : how long it took
    peak_mb : most memory the process has held so far
    """

    case: int
    base: str
    kind: str
    end: str
    seconds: float = 0.0
    peak_mb: float = 0.0

    @property
    def is_failure(self) -> bool:
        """Whether the reader did not stand it."""
        return self.end.startswith(("CRASH", "HANG", "UNCODED"))


def write_bases(folder: Path) -> None:
    """Write the honest series: one for each transfer syntax, and three multi-frame ones."""
    for name, syntax in SYNTAXES.items():
        build_ct_series(folder / name, replace(SMALL, transfer_syntax=syntax))
    for name, syntax in (
        ("enhanced", ExplicitVRLittleEndian),
        ("enhanced implicit", ImplicitVRLittleEndian),
        ("enhanced rle", RLELossless),
    ):
        (folder / name).mkdir()
        save(enhanced_ct(SMALL), folder / name / "frames.dcm", syntax)


def enhanced_ct(options: PhantomOptions) -> Dataset:
    """The phantom as one Enhanced CT object (PS3.3 A.38), as far as a reader needs it."""
    slices = ct_datasets(options)
    whole = Dataset()
    whole.update(slices[0])
    whole.file_meta = FileMetaDataset()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del whole[keyword]
    for keyword in ("RescaleIntercept", "RescaleSlope", "RescaleType"):
        del whole[keyword]
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    whole.SOPClassUID = EnhancedCTImageStorage
    whole.SOPInstanceUID = uid(options.series, "enhanced")
    whole.NumberOfFrames = len(slices)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(slices[0], "PixelSpacing", "SliceThickness")]
    shared.PlaneOrientationSequence = [_item(slices[0], "ImageOrientationPatient")]
    rescale = _item(slices[0], "RescaleIntercept", "RescaleSlope", "RescaleType")
    shared.PixelValueTransformationSequence = [rescale]
    kind = Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared.CTImageFrameTypeSequence = [kind]
    whole.SharedFunctionalGroupsSequence = [shared]
    whole.PerFrameFunctionalGroupsSequence = [_frame(k, each) for k, each in enumerate(slices)]
    whole.add_new("PixelData", "OW", b"".join(each.PixelData for each in slices))
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID
    whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return whole


def _item(source: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        item[keyword] = source[keyword]
    return item


def _frame(k: int, source: Dataset) -> Dataset:
    content = Dataset()
    content.StackID, content.InStackPositionNumber = "1", k + 1
    content.DimensionIndexValues = [1, k + 1]
    frame = Dataset()
    frame.FrameContentSequence = [content]
    frame.PlanePositionSequence = [_item(source, "ImagePositionPatient")]
    return frame


# ---------------------------------------------------------------------- the parent


def fuzz(folder: Path, seed: int, cases: range, case_s: float = CASE_S) -> Iterator[Outcome]:
    """Read damaged files in child processes; every case ends in exactly one outcome."""
    write_bases(folder / "bases")
    first = cases.start
    while first < cases.stop:
        for outcome in _one_child(folder, seed, range(first, cases.stop), case_s):
            first = outcome.case + 1
            yield outcome


def _one_child(folder: Path, seed: int, cases: range, case_s: float) -> Iterator[Outcome]:
    """Outcomes until the child has done all cases or has come to grief."""
    command = [sys.executable, "-m", "tests.support.ct.fuzz_child", str(folder), str(seed)]
    command += [str(cases.start), str(cases.stop)]
    with (
        (folder / "stderr.txt").open("w") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=_CHECKOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
        ) as child,
    ):
        lines: queue.Queue[str] = queue.Queue()
        thread = threading.Thread(target=_pump, args=(child, lines))
        thread.start()
        under_way = Outcome(case=cases.start, base="", kind="", end="")
        hangs = False
        try:
            while line := lines.get(timeout=60 if not under_way.base else case_s):
                message = json.loads(line)
                under_way = Outcome(**message)
                if under_way.end:
                    yield under_way
        except queue.Empty:
            hangs = True
            child.kill()
        status = child.wait()
        thread.join()
        if status and not under_way.base:
            raise RuntimeError((folder / "stderr.txt").read_text(encoding="utf-8"))
        if status and not under_way.end:
            how = signal.Signals(-status).name if status < 0 else f"exit {status}"
            yield replace(under_way, end="HANG" if hangs else f"CRASH {how}")


def _pump(child: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put("")
