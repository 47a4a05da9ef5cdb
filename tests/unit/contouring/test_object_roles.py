"""Whatever a recipient gets, no object refers to one that it does not get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import combinations

import pydicom
import pytest
from pydicom.dataset import Dataset

from orgseg_node.contouring.object_roles import (
    PDF,
    RTSTRUCT,
    SEG,
    SR,
    alone_role,
    kind_of,
    roles_of,
    written_instead,
)
from orgseg_node.contouring.objects import (
    OPTIONAL,
    RequestedObjects,
    Result,
    make_objects,
    prove_objects,
    trace_contours,
    wrap_page,
)
from orgseg_node.contouring.structures import AppliedProtocol
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.seg import SegKind
from orgseg_node.dicom.reading.series import CtSeries
from tests.support.ct.objects import PROVENANCE, SMALL, awkward_label_map, series_of

KINDS = (RTSTRUCT, SEG, SR, PDF)
SETS = [kinds for count in range(1, 5) for kinds in combinations(KINDS, count)]
RECIPIENTS = [(kinds, tps) for kinds in SETS for tps in (None, "generic", "eclipse")]


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> CtSeries:
    return series_of(tmp_path_factory.mktemp("ct"), SMALL)


@pytest.fixture(scope="module", params=[("generic", SegKind.BINARY), ("eclipse", SegKind.LABELMAP)])
def objects(
    request: pytest.FixtureRequest, series: CtSeries, organ_table: OrganTable
) -> Mapping[str, Dataset]:
    """Every object of a job with every recipient, as read back; the profile of the protocol varies."""
    profile, kind = request.param
    label_map: LabelMap = awkward_label_map(series.grid, organ_table)
    roles = tuple({role for kinds, tps in RECIPIENTS for role in roles_of(kinds, tps)})
    requested = RequestedObjects(roles=roles, profile=profile, seg=kind)
    applied = AppliedProtocol(label_map=label_map, regions=(), order=(), findings=(), recorded=())
    result = Result(series=series, applied=applied, findings=(), provenance=PROVENANCE)
    made = make_objects(result, requested, trace_contours(applied, requested))
    prove_objects(result, requested, made)
    for role in roles:
        if kind_of(role) == PDF:
            made[role] = wrap_page(b"%PDF-1.4", result, made, role)
    assert set(roles) <= made.keys()
    assert made.keys() - {RTSTRUCT, SEG, SR} <= set(OPTIONAL)
    return {role: pydicom.dcmread(BytesIO(content)) for role, content in made.items()}


def referenced(dataset: Dataset) -> Iterator[str]:
    """Every SOP Instance UID that an object refers to."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from referenced(item)
        elif element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)


@pytest.mark.parametrize(("kinds", "tps"), RECIPIENTS)
def test_every_recipient_has_all_that_its_objects_refer_to(
    objects: Mapping[str, Dataset], series: CtSeries, kinds: tuple[str, ...], tps: str | None
) -> None:
    roles = roles_of(kinds, tps)
    assert [kind_of(role) for role in roles] == list(kinds)
    here = {str(objects[role].SOPInstanceUID) for role in roles}
    here |= {one.sop_instance_uid for one in series.slices} | {series.study_instance_uid}
    for role in roles:
        assert set(referenced(objects[role])) <= here, role


def test_objects_that_differ_have_uids_of_their_own(objects: Mapping[str, Dataset]) -> None:
    by_uid: dict[str, set[str]] = {}
    for role, dataset in objects.items():
        by_uid.setdefault(str(dataset.SOPInstanceUID), set()).add(role)
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    for roles in by_uid.values():
        contents = []
        for role in roles:
            buffer = BytesIO()
            objects[role].save_as(buffer)
            contents.append(buffer.getvalue())
        assert len(set(contents)) == 1, roles


def test_who_gets_both_gets_the_two_that_refer_to_each_other(objects: Mapping[str, Dataset]) -> None:
    assert roles_of((RTSTRUCT, SEG)) == (RTSTRUCT, SEG)
    seg = objects[SEG].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
    assert seg == objects[RTSTRUCT].SOPInstanceUID


def test_the_volumes_are_the_same_with_and_without_segments(objects: Mapping[str, Dataset]) -> None:
    def volumes(dataset: Dataset) -> list[str]:
        own = [str(one.NumericValue) for one in dataset.get("MeasuredValueSequence", ())]
        return own + [value for item in dataset.get("ContentSequence", ()) for value in volumes(item)]

    assert volumes(objects["SR"]) == volumes(objects["SR:alone"]) == volumes(objects["SR:SEG"]) != []


def test_a_job_of_an_earlier_version_sends_what_it_has() -> None:
    assert [written_instead(role) for role in ("SEG:alone", "SR:SEG", "RTSTRUCT:alone")] == [
        SEG,
        SR,
        RTSTRUCT,
    ]
    assert written_instead("RTSTRUCT:eclipse") == "RTSTRUCT:eclipse"  # never one with other limits


@pytest.mark.parametrize(("kinds", "tps"), RECIPIENTS)
def test_what_goes_to_an_alternate_refers_to_no_other_object(
    objects: Mapping[str, Dataset], series: CtSeries, kinds: tuple[str, ...], tps: str | None
) -> None:
    images = {one.sop_instance_uid for one in series.slices} | {series.study_instance_uid}
    for role in roles_of(kinds, tps):
        variant = objects[alone_role(role)]
        assert kind_of(alone_role(role)) == kind_of(role)
        assert set(referenced(variant)) <= images | {str(variant.SOPInstanceUID)}, role
    assert alone_role("CT:1.2.3") == "CT:1.2.3"
