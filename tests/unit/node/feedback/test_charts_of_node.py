"""Charts, alarms and notices of what came back, from the rows of the database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.config.peers import FeedbackSection
from orgseg_node.node.feedback.charts import MEASURES, alarms, charts, note_alarms
from orgseg_node.node.feedback.model import FeedbackState, OrganFeedback, OrganOutcome
from orgseg_node.node.feedback.pictures import draw_chart, picture_name
from orgseg_node.node.feedback.planners import planner_edits
from orgseg_node.node.feedback.rows import Arrived, FeedbackResult, FeedbackRows
from orgseg_node.node.monitoring.alerts import SENTENCES, NoticeCode, Watch
from orgseg_node.node.store.database import Database

SECTION = FeedbackSection()
DAY = timedelta(days=1)


class Department:
    """Structure sets that come back, one each day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = Database(folder / "node.sqlite")
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.rows = FeedbackRows(self.database, clock=lambda: self.now)
        self.random = np.random.default_rng(4)

    def case(
        self, surface_dice: float, *, model: str = "m 1", edited: float = 0.5, outcome: str = "EDITED"
    ) -> None:
        """One structure set that counts."""
        self.now += DAY
        organ = OrganFeedback(
            number=0, position=0, roi="Brainstem", organ="brainstem", outcome=outcome, model=model,
            dice=surface_dice, surface_dice_2mm=surface_dice, hd95_mm=10 * (1 - surface_dice),
            mean_distance_mm=3 * (1 - surface_dice), added_path_mm=900 * (1 - surface_dice),
            slices_edited=edited,
        )  # fmt: skip
        name = str(self.now.timestamp())
        number = self.rows.register(Arrived(sop_uid=name, sha256=f"{name:0>64}"[:64], path="p", sender="TPS"))
        result = FeedbackResult(
            state=FeedbackState.COUNTED, job_id=name, planner="ab12", contours_sha256=name, organs=(organ,)
        )
        self.rows.finish(self.rows.one(number or 0), result)

    def cases(self, count: int, mean: float = 0.9, *, model: str = "m 1") -> None:
        for value in self.random.normal(mean, 0.02, count):
            self.case(float(value), model=model, edited=float(self.random.uniform(0.3, 0.7)))


@pytest.fixture
def department(tmp_path: Path) -> Iterator[Department]:
    made = Department(tmp_path)
    yield made
    made.database.close()


def test_there_is_a_chart_for_each_organ_measure_and_model(department: Department) -> None:
    department.cases(5)
    department.cases(5, model="m 2")
    found = charts(department.database, SECTION)
    assert {(one.measure, one.model) for one in found} == {(m, v) for m in MEASURES for v in ("m 1", "m 2")}
    assert charts(department.database, SECTION, organ="heart") == []


def test_a_silent_change_raises_one_notice_in_its_month(department: Department) -> None:
    department.cases(60)
    assert note_alarms(department.database, SECTION) == []
    department.cases(20, mean=0.85)
    fresh = note_alarms(department.database, SECTION, clock=lambda: department.now)
    assert {one.measure for one in fresh} == {"surface_dice_2mm", "hd95_mm"}
    assert note_alarms(department.database, SECTION) == [], "each is written once"
    assert min(one.number for one in alarms(department.database)) <= 80
    config = NodeConfig.model_validate(
        {
            "node": {"data_dir": department.folder},
            "receiver": {"accept_any_calling_ae": True, "min_free_mb": 0},
        }
    )
    watch = Watch(config, department.database)
    assert watch.scan() == 1
    assert watch.scan() == 0
    assert SENTENCES[NoticeCode.FEEDBACK_ALARM]


def test_a_new_version_is_compared_with_the_one_before(department: Department) -> None:
    department.cases(60)
    department.cases(15, mean=0.8, model="m 2")
    assert {one.model for one in note_alarms(department.database, SECTION)} == {"m 2"}


def test_an_organ_that_is_thrown_away_raises_an_alarm(department: Department) -> None:
    department.cases(40)
    for _ in range(8):
        department.case(-1.0, outcome=OrganOutcome.DELETED, edited=-1.0)
    assert {one.measure for one in note_alarms(department.database, SECTION)} == {"deleted"}


def test_edits_that_fade_raise_an_alarm_once(department: Department) -> None:
    for share in np.linspace(0.9, 0.05, 40):
        department.case(0.9, edited=float(share))
    (found,) = planner_edits(department.database)
    assert found.fading.is_fading
    fresh = [one for one in note_alarms(department.database, SECTION) if one.measure == "fading"]
    assert [(one.organ, one.model) for one in fresh] == [("brainstem", "planner ab12")]
    department.case(0.9, edited=0.05)
    assert [one for one in note_alarms(department.database, SECTION) if one.measure == "fading"] == []


def test_a_chart_is_drawn(department: Department) -> None:
    department.cases(60)
    department.cases(10, mean=0.8)
    drawn = charts(department.database, SECTION)
    assert {each.measure for each in drawn} == set(MEASURES)
    for one in drawn:
        assert draw_chart(one).startswith(b"\x89PNG")
        assert picture_name(one).startswith(f"brainstem-{one.measure}-")
