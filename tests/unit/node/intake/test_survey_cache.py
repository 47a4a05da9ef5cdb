"""A series is surveyed once for the same images, however often it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orgseg_node.dicom.reading.series import Inventory
from orgseg_node.node.intake.file_reader import DirectReader, SurveyedSeries
from orgseg_node.node.intake.survey_cache import Surveys
from orgseg_node.node.store.model import Instance

ONE = Instance(
    sop_uid="1.4", series_uid="1.2", sha256="a" * 64, size=1, path="inbox/1.2/1.4.dcm",
    transfer_syntax="1.2.840.10008.1.2", calling_ae="CT", received_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip
TWO = replace(ONE, sop_uid="1.5", path="inbox/1.2/1.5.dcm")


class _Reader(DirectReader):
    def __init__(self) -> None:
        self.read: list[list[Path]] = []

    def survey(self, paths: Sequence[Path]) -> SurveyedSeries:
        self.read.append(list(paths))
        return SurveyedSeries(
            inventory=Inventory(accepted=(), refused=(), aside=(), patients=0), header=Dataset()
        )


@pytest.fixture
def reader() -> _Reader:
    return _Reader()


def test_the_same_images_are_surveyed_once(reader: _Reader, tmp_path: Path) -> None:
    known = Surveys(tmp_path, reader)
    first = known.of("1.2", [ONE])
    assert known.of("1.2", [ONE]) is first
    assert reader.read == [[tmp_path / ONE.path]]


@pytest.mark.parametrize("now", [[ONE, TWO], [TWO], [replace(ONE, sha256="b" * 64)]])
def test_other_images_are_surveyed_again(reader: _Reader, tmp_path: Path, now: list[Instance]) -> None:
    known = Surveys(tmp_path, reader)
    first = known.of("1.2", [ONE])
    assert known.of("1.2", now) is not first
    assert len(reader.read) == 2


def test_what_was_judged_and_what_is_too_much_is_forgotten(reader: _Reader, tmp_path: Path) -> None:
    known = Surveys(tmp_path, reader)
    known.of("1.2", [ONE])
    known.forget("1.2")
    known.of("1.2", [ONE])
    assert len(reader.read) == 2
    for number in range(Surveys.MOST):
        known.of(f"2.{number}", [ONE])
    known.of("1.2", [ONE])
    assert len(reader.read) == 2 + Surveys.MOST + 1
