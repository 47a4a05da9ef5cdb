"""What may be asked of a PACS, what its statuses mean, and what may be pulled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from orgseg_node.errors import (
    ConfigError,
    KeyUnusable,
    MoveRefused,
    PullIncomplete,
    PullTooWide,
    UnknownSource,
    Unreachable,
)
from orgseg_node.node.config.load import load_config
from orgseg_node.node.config.node_config import NodeConfig, Source
from orgseg_node.node.dimse.association import describe_status
from orgseg_node.node.dimse.find_scu import QueryKey, Series, Study, _text
from orgseg_node.node.dimse.retrieve_scu import _SubOperations, require_matches, storage_contexts

SOURCE = Source(ae_title="PACS", host="127.0.0.1", port=104)
STUDY = Study(
    study_uid="1.2",
    patient_id="Pat-1",
    patient_name="Secret^Name",
    date="20260105",
    accession="ACC-1",
    description="",
    modalities="CT",
    series=1,
    instances=4,
)
SERIES = Series(
    study_uid="1.2", series_uid="1.2.3", modality="CT", number="1", description="", instances=4, study=STUDY
)


@pytest.mark.parametrize(
    "key",
    [
        {"study_uid": "1.2.x"},
        {"study_uid": "1.2\\1.3"},
        {"study_uid": "*"},
        {"series_uid": "1" * 65},
        {"series_uid": "../1"},
        {"patient_id": "A\\B"},
        {"patient_id": " Q7"},
        {"patient_id": "A\n"},
        {"patient_id": "A" * 65},
        {"accession": "A" * 17},
        {"modality": "ct"},
        {"modality": "CT\\MR"},
        {"dates": "2026"},
        {"dates": "-"},
        {"dates": "20261301"},
        {"dates": "20260230-"},
        {"dates": "20260201-20260101"},
        {"dates": "20260101-20260201-20260301"},
        {"dates": "2026010120260201"},
        {"dates": "2026-01-01"},
    ],
)
def test_a_key_that_dicom_would_misread_is_refused_without_repeating_it(key: dict[str, str]) -> None:
    with pytest.raises(KeyUnusable) as caught:
        QueryKey(**key)
    (value,) = key.values()
    assert len(value) == 1 or value not in caught.value.sentence


@pytest.mark.parametrize("dates", ["", "20260105", "20260101-20260131", "20260101-", "-20260131"])
def test_dates_and_ranges_are_accepted(dates: str) -> None:
    assert QueryKey(dates=dates).dates == dates


@pytest.mark.parametrize(
    ("key", "is_specific"),
    [
        (QueryKey(), False),
        (QueryKey(modality="CT", dates="20260101"), False),
        (QueryKey(patient_id="*"), False),
        (QueryKey(patient_id="PAT?"), False),
        (QueryKey(accession="1*", patient_id="*"), False),
        (QueryKey(accession="1*", patient_id="PAT"), True),
        (QueryKey(patient_id="PAT"), True),
        (QueryKey(accession="1"), True),
        (QueryKey(study_uid="1.2"), True),
        (QueryKey(series_uid="1.2"), True),
    ],
)
def test_only_a_given_patient_order_study_or_series_is_specific(key: QueryKey, *, is_specific: bool) -> None:
    assert key.is_specific is is_specific


@pytest.mark.parametrize(
    "key",
    [
        QueryKey(patient_id="PAT-2"),
        QueryKey(accession="ACC-2"),
        QueryKey(study_uid="1.3"),
        QueryKey(series_uid="1.2.4"),
        QueryKey(patient_id="PAT-1", modality="MR"),
    ],
)
def test_series_that_do_not_match_the_key_are_not_retrieved(key: QueryKey) -> None:
    with pytest.raises(PullTooWide) as caught:
        require_matches(key, [SERIES])
    assert "Secret" not in caught.value.sentence


def test_series_that_match_in_another_case_are_retrieved() -> None:
    require_matches(QueryKey(patient_id="PAT-1", accession="ACC*", study_uid="1.2", modality="CT"), [SERIES])


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0xA801, "0xA801, it does not know the AE title"),
        (0xA7FF, "0xA7FF, it refused"),
        (0xB007, "0xB007, done with a warning"),
        (0xC123, "0xC123, it cannot process the request"),
        (0x0999, "0x0999, a status that the standard does not define"),
    ],
)
def test_every_status_has_a_description(status: int, text: str) -> None:
    assert describe_status(status).startswith(text)


def test_all_storage_contexts_fit_into_one_association() -> None:
    contexts = storage_contexts()
    assert len(contexts) + 1 <= 128  # PS3.8 9.3.2.2: odd numbers from 1 to 255
    assert len({(kind, *syntaxes) for kind, syntaxes in contexts}) == len(contexts)


def _answers(*counts: tuple[int, int, int, int]) -> Callable[[], Iterator[tuple[Dataset, None]]]:
    """Responses with status and completed, failed and warning sub-operations."""

    def send() -> Iterator[tuple[Dataset, None]]:
        for status, completed, failed, warning in counts:
            response = Dataset()
            response.Status = status
            response.NumberOfCompletedSuboperations = completed
            response.NumberOfFailedSuboperations = failed
            response.NumberOfWarningSuboperations = warning
            yield response, None

    return send


def test_images_with_a_warning_were_received() -> None:
    operations = _SubOperations(source=SOURCE)
    operations.run(_answers((0xFF00, 1, 0, 0), (0xB000, 2, 0, 2)))
    operations.count_missing(4, 4)
    operations.require_all(operations.completed)
    assert (operations.completed, operations.remarks, operations.failed) == (4, 2, 0)


def test_failures_are_counted_over_all_series() -> None:
    operations = _SubOperations(source=SOURCE)
    operations.run(_answers((0x0000, 3, 0, 0)))
    operations.run(_answers((0xFF00, 1, 0, 0), (0xB000, 1, 2, 0)))
    with pytest.raises(PullIncomplete, match="Received 4 images, missing 2: 0xB000, some images"):
        operations.require_all(operations.completed)


def test_nothing_at_all_is_not_success() -> None:
    operations = _SubOperations(source=SOURCE)
    operations.run(_answers((0x0000, 0, 0, 0)))
    with pytest.raises(PullIncomplete, match="Received 0 images, missing an unknown number"):
        operations.require_all(0)


def test_an_unknown_receiver_stops_the_retrieval() -> None:
    operations = _SubOperations(source=SOURCE, to=", for NODE")
    with pytest.raises(MoveRefused, match=r"0xA801, .*, for NODE") as caught:
        operations.run(_answers((0xA801, 0, 4, 0)))
    assert caught.value.status == 0xA801


@pytest.mark.parametrize("counts", [(0xC000, 0, 0, 0), (0xA702, 0, 4, 0), (0xB000, 0, 4, 0)])
def test_whatever_a_source_answers_that_sends_nothing_the_receiver_is_named(counts: tuple[int, ...]) -> None:
    operations = _SubOperations(source=SOURCE, to=", for NODE")
    operations.run(_answers(counts))
    with pytest.raises(MoveRefused, match=r", for NODE; perhaps it does not know this receiver") as caught:
        operations.require_all(0)
    assert "AE title" in caught.value.next_step


def test_a_response_without_status_is_a_lost_connection() -> None:
    def send() -> Iterator[tuple[Dataset, None]]:
        yield from _answers((0xFF00, 3, 0, 0))()
        yield Dataset(), None

    with pytest.raises(Unreachable, match="after 3 images"):
        _SubOperations(source=SOURCE).run(send)


# ---------------------------------------------------------------------- configuration

HEAD = '[[peers]]\nae_title = "PACS"\n'
PACS = '[sources.pacs]\nae_title = "PACS"\nhost = "10.0.0.1"\nport = 104\n'


def _load(folder: Path, text: str) -> NodeConfig:
    file = folder / "node.toml"
    file.write_text(HEAD + text, encoding="utf-8")
    return load_config(file)


def test_a_source_is_found_by_name_or_a_similar_one_is_suggested(tmp_path: Path) -> None:
    config = _load(tmp_path, PACS)
    source = config.source("pacs")
    assert (source.method, source.move_to, config.calling_ae_for(source)) == ("move", None, "ORGSEG")
    with pytest.raises(UnknownSource, match="did you mean 'pacs'"):
        config.source("pacsa")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (PACS.replace("104", "0"), "sources.pacs.port: input should be greater than or equal to 1"),
        (PACS + 'method = "put"', "sources.pacs.method: input should be 'get' or 'move', not 'put'"),
        (PACS + 'move_too = "X"', "sources.pacs.move_too: there is no such setting; did you mean 'move_to'?"),
        (PACS.replace("pacs", "'a b'"), "sources.a b: a name has up to 32"),
    ],
)
def test_each_problem_of_a_source_is_described(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert line in caught.value.detail


def test_several_values_of_a_response_stay_separated_and_are_no_list() -> None:
    match = Dataset()
    match.PatientID, match.ModalitiesInStudy = ["12", "3"], ["CT", "RTSTRUCT"]
    assert (_text(match, "PatientID"), _text(match, "ModalitiesInStudy")) == ("12\\3", "CT\\RTSTRUCT")
