"""What the node writes into each kind of object, found out by writing them.

The same CT is contoured five times: as it is, with another patient and other identifiers, with a header that
says as little as the standard allows, as another job, and with other organs. What changes, changes with the
cause; what never changes is fixed. So the tables cannot claim what the writers do not do.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import dcmread
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.contours import trace
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import load_organs
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.kit.phantom import write_phantom
from orgseg_node.dicom.objects.pdf import write_pdf
from orgseg_node.dicom.objects.provenance import ModelVersion, Provenance
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.objects.seg import SegKind, write_seg
from orgseg_node.dicom.objects.sr import write_report_sr
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.shipped import shipped_config

Path_ = tuple[str, ...]
"""Keywords from the outermost sequence to the attribute."""

_GRID: Final = Grid(shape=(4, 32, 32), spacing_mm=(3.0, 2.0, 2.0), origin_mm=(-31.0, -31.0, -6.0))
_LARGER: Final = Grid(shape=(5, 40, 36), spacing_mm=(2.5, 1.5, 1.5), origin_mm=(-30.0, -29.0, 7.0))
_JOB: Final = Provenance(
    job_id="conformance",
    created=datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
    models=(ModelVersion(name="model", version="1", sha256="ab" * 32),),
    institution="Institution",
)
_OTHER_JOB: Final = Provenance(
    job_id="another",
    created=datetime(2025, 6, 7, 8, 9, 10, tzinfo=UTC),
    models=(ModelVersion(name="another", version="2", sha256="cd" * 32),),
    software_version="0",
    device_serial="another",
)
_FINDING: Final = Finding(level=Level.WARNING, code="EXAMPLE", message="An example.")
_LONGEST, _MOST = 48, 4  # characters of a fixed value, and number of values, that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute of an object the node writes.

    Attributes
    ----------
    path : keywords from the outermost sequence
    tag, name, vr : as in PS3.6
    presence : ALWAYS, or VNAP (may be empty), or ANAP (may be absent)
    source : where its value comes from
    """

    path: Path_
    tag: str
    name: str
    vr: str
    presence: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One way to come to the objects."""

    series: CtSeries
    label_map: LabelMap
    provenance: Provenance


def created_objects() -> dict[str, tuple[Attribute, ...]]:
    """The attributes of each kind of object, in the order of their tags, by the kind's name."""
    with tempfile.TemporaryDirectory() as folder:
        cases = _cases(Path(folder))
        written = {name: _objects(case) for name, case in cases.items()}
    return {
        kind: _table({name: objects[kind] for name, objects in written.items()}) for kind in written["base"]
    }


def _cases(folder: Path) -> dict[str, _Case]:
    organs = _label_map(_GRID, ("spinal_cord", "parotid_left"))
    larger = _label_map(_LARGER, ("spinal_cord", "parotid_left"))
    others = _label_map(_GRID, ("brainstem", "parotid_right", "mandible"))
    base = _Case(series=_series(folder / "base", organs), label_map=organs, provenance=_JOB)
    return {
        "base": base,
        "patient": _Case(
            series=_series(folder / "patient", larger, _another_patient),
            label_map=larger,
            provenance=_JOB,
        ),
        "sparse": replace(base, series=_series(folder / "sparse", organs, _say_little)),
        "job": replace(base, provenance=_OTHER_JOB),
        "organs": replace(base, label_map=others),
    }


def _label_map(grid: Grid, keys: tuple[str, ...]) -> LabelMap:
    """A hollow block for the first organ, and a bar as long as the label for each other one."""
    table = load_organs(shipped_config("organs.toml"))
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[1:, 8:20, 8:20] = 1
    labels[1:3, 12:16, 12:16] = 0
    for label in range(2, len(keys) + 1):
        labels[0, 4 * label : 4 * label + 2, 4 : 4 + label * len(keys)] = label
    return LabelMap(grid=grid, labels=labels, organs={n: table[key] for n, key in enumerate(keys, 1)})


def _series(folder: Path, label_map: LabelMap, change: Callable[[Dataset], None] | None = None) -> CtSeries:
    for path in write_phantom(folder, label_map):
        if change is not None:
            dataset = dcmread(path)
            change(dataset)
            dataset.save_as(path)
    return read_series(folder)


def _another_patient(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(dataset, keyword, "Another")
    dataset.PatientSex, dataset.PatientBirthDate = "F", "19500101"
    dataset.StudyDescription = dataset.PositionReferenceIndicator = "Another"
    dataset.StudyDate, dataset.StudyTime = "20200101", "010101"
    dataset.Manufacturer = "Another"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
        setattr(dataset, keyword, generate_uid(entropy_srcs=["another", str(dataset[keyword].value)]))
    dataset.PatientPosition, dataset.ImageOrientationPatient = "HFP", [-1, 0, 0, 0, -1, 0]
    dataset.SliceThickness = "2"


def _say_little(dataset: Dataset) -> None:
    del dataset.SpecificCharacterSet, dataset.StudyDescription
    for keyword in ("PatientName", "PatientID", "PatientSex", "StudyID", "StudyDate", "StudyTime"):
        setattr(dataset, keyword, "")


def _objects(case: _Case) -> dict[str, Dataset]:
    series, provenance = case.series, case.provenance
    label_map = LabelMap(grid=series.geometry, labels=case.label_map.labels, organs=case.label_map.organs)
    seg = write_seg(label_map, series, provenance)
    rtstruct = write_rtstruct(trace(label_map), series, provenance, segmentation=seg)
    seg = write_seg(label_map, series, provenance, structure_set_uid=str(rtstruct.SOPInstanceUID))
    report = write_report_sr(label_map, series, provenance, seg, [_FINDING])
    pdf = f"%PDF-1.4 {provenance.job_id} {sorted(label_map.organs.items())}".encode()
    return {
        "RT Structure Set": rtstruct,
        "Segmentation": seg,
        "Label Map Segmentation": write_seg(label_map, series, provenance, kind=SegKind.LABELMAP),
        "Comprehensive SR": report,
        "Encapsulated PDF": write_pdf(pdf, series, provenance, sources=[seg, report]),
    }


def _table(written: Mapping[str, Dataset]) -> tuple[Attribute, ...]:
    found = {name: _seen(dataset) for name, dataset in written.items()}
    paths = sorted({path for seen in found.values() for path in seen.values}, key=_order)
    return tuple(_attribute(path, found) for path in paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was found in one object.

    Attributes
    ----------
    values : VR and value of each attribute at every depth; items of a sequence are taken together
    items : how many items each sequence has in all, the object itself being the one item of ``()``
    """

    values: dict[Path_, list[tuple[str, str]]]
    items: Counter[Path_]

    def of(self, path: Path_) -> list[tuple[str, str]]:
        """VR and values of an attribute."""
        return self.values.get(path, [])

    def is_everywhere(self, path: Path_) -> bool:
        """Whether each item that may hold an attribute does; nothing is asked of a sequence without items."""
        return len(self.of(path)) == self.items[path[:-1]]


def _seen(dataset: Dataset) -> _Seen:
    seen = _Seen(values={}, items=Counter())
    _walk(dataset, (), seen)
    return seen


def _walk(dataset: Dataset, above: Path_, seen: _Seen) -> None:
    seen.items[above] += 1
    for element in dataset:
        path = (*above, element.keyword)
        value = "" if element.value is None else str(element.value)
        if element.VR == "SQ":
            value = "items" if element.value else ""
            for item in element.value:
                # content items contain content items of the same form; one level is enough
                is_content = element.keyword == "ContentSequence" and above[-1:] == path[-1:]
                _walk(item, above if is_content else path, seen)
        seen.values.setdefault(path, []).append((element.VR, value))


def _order(path: Path_) -> tuple[str, ...]:
    return tuple(_tag(keyword) for keyword in path)


def _tag(keyword: str) -> str:
    return str(Tag(keyword))


def _attribute(path: Path_, found: Mapping[str, _Seen]) -> Attribute:
    vr = next(vr for seen in found.values() for vr, _ in seen.of(path))
    return Attribute(
        path=path,
        tag=_tag(path[-1]),
        name=dictionary_description(path[-1]),
        vr=vr,
        presence=_presence(path, found),
        source="" if vr == "SQ" else _source(path, found),
    )


def _presence(path: Path_, found: Mapping[str, _Seen]) -> str:
    if not all(seen.is_everywhere(path) for seen in found.values()):
        return "ANAP"
    return "VNAP" if any(value == "" for seen in found.values() for _, value in seen.of(path)) else "ALWAYS"


def _source(path: Path_, found: Mapping[str, _Seen]) -> str:
    base = found["base"].of(path)
    causes = {"patient": "CT", "sparse": "CT", "job": "job", "organs": "result"}
    changed = dict.fromkeys(cause for name, cause in causes.items() if set(found[name].of(path)) != set(base))
    if changed:
        return " and ".join(changed)
    fixed = list(dict.fromkeys(value for _, value in base))
    if fixed == [""]:
        return "empty"
    if any(len(value) > _LONGEST for value in fixed) or len(fixed) > _MOST:
        return "fixed"
    return "fixed: " + ", ".join(f"`{value}`" for value in fixed if value)
