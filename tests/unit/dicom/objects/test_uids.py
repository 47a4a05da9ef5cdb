"""UIDs follow from what they stand for, and provenance is complete."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from orgseg_node.dicom.objects.provenance import ModelVersion
from orgseg_node.dicom.objects.uids import derive_uid
from tests.support.ct.objects import PROVENANCE


def test_uid_of_a_job_never_changes_between_releases() -> None:
    uid = derive_uid("job-1", "RTSTRUCT", "instance")
    assert uid == "2.25.160906839120178011999319310138576716824", (
        "an archive would hold two objects for one job"
    )


def test_borders_and_order_of_parts_count() -> None:
    assert len({derive_uid("ab", "c"), derive_uid("a", "bc"), derive_uid("c", "ab"), derive_uid("abc")}) == 4


@pytest.mark.parametrize("parts", [(), ("",), ("job", "")])
def test_missing_parts_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="parts"):
        derive_uid(*parts)


def test_provenance_is_written_in_its_own_time_zone() -> None:
    created = datetime(2024, 5, 6, 23, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    provenance = replace(PROVENANCE, created=created)
    assert (provenance.date, provenance.time) == ("20240506", "230809")


def test_provenance_lists_the_node_and_every_model_in_64_characters() -> None:
    model = ModelVersion(name="n" * 80, version="v" * 80, sha256="0" * 64)
    versions = replace(PROVENANCE, models=(*PROVENANCE.models, model)).software_versions
    assert [line.split()[0] for line in versions[:3]] == ["orgseg_node", "starter", "larynx"]
    assert versions[1] == "starter 1.0 sha256:abababababab"
    assert max(map(len, versions)) <= 64


@pytest.mark.parametrize(
    "wrong",
    [
        {"job_id": ""},
        {"models": ()},
        {"created": datetime(2024, 5, 6, tzinfo=UTC).replace(tzinfo=None)},
    ],
)
def test_incomplete_provenance_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Provenance needs"):
        replace(PROVENANCE, **wrong)
