"""What the rows of feedback and of alarms promise, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orgseg_node.errors import OrgsegError
from orgseg_node.node.config.peers import FeedbackSection
from orgseg_node.node.feedback.charts import alarms, note_alarms
from orgseg_node.node.feedback.model import FeedbackState, OrganFeedback
from orgseg_node.node.feedback.rows import Arrived, FeedbackResult, FeedbackRows
from orgseg_node.node.store.database import Database, schema_steps

S = FeedbackState


@pytest.fixture(params=["sqlite", "postgres"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeedbackRows]:
    place = tmp_path / "node.sqlite"
    server = request.getfixturevalue("postgres").new_database() if request.param == "postgres" else place
    database = Database(server)
    yield FeedbackRows(database)
    database.close()


def arrived(name: str) -> Arrived:
    return Arrived(sop_uid=f"1.2.{name}", sha256=name[-1] * 64, path=f"inbox/{name}.dcm", sender="TPS")


def counted(written: str, contours: str, *, dice: float = 0.9) -> FeedbackResult:
    organ = OrganFeedback(
        number=0, position=0, roi="Brainstem", organ="brainstem", outcome="EDITED", dice=dice
    )
    return FeedbackResult(
        state=S.COUNTED, job_id="j", written=written, contours_sha256=contours, organs=(organ,)
    )


class TestFeedbackRows:
    """One class for the seam."""

    def test_a_structure_set_is_registered_once(self, rows: FeedbackRows) -> None:
        assert rows.register(arrived("1")) == 1
        assert rows.register(arrived("1")) is None
        assert rows.register(arrived("2")) == 2
        assert [one.state for one in rows.all()] == [S.RECEIVED, S.RECEIVED]

    def test_many_senders_at_once_get_numbers_of_their_own(self, rows: FeedbackRows) -> None:
        def send(first: int) -> None:
            for number in range(first, first + 5):
                rows.register(Arrived(sop_uid=f"1.{number}", sha256="a" * 64, path="p", sender="TPS"))
            rows._db.close()

        threads = [threading.Thread(target=send, args=(10 * count,)) for count in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [one.number for one in rows.all()] == list(range(1, 21))

    def test_a_result_is_stored_once_whoever_measured_it(self, rows: FeedbackRows) -> None:
        rows.register(arrived("1"))
        seen = rows.one(1)
        assert rows.finish(seen, counted("20260101", "c")) is S.COUNTED
        assert rows.finish(seen, counted("20260101", "c", dice=0.1)) is S.COUNTED
        (organ,) = rows.counted_organs()
        assert organ.dice == pytest.approx(0.9)
        assert organ.hd95_mm == -1.0

    def test_of_one_result_the_latest_counts_and_never_two(self, rows: FeedbackRows) -> None:
        for name in ("1", "2", "3"):
            rows.register(arrived(name))
        rows.finish(rows.one(1), counted("20260101", "c1"))
        rows.finish(rows.one(2), counted("20260103", "c2"))
        rows.finish(rows.one(3), counted("20260102", "c3"))
        assert [one.state for one in rows.all()] == [S.SUPERSEDED, S.COUNTED, S.SUPERSEDED]
        with pytest.raises(OrgsegError), rows._db.write() as tx:
            tx.run("UPDATE feedback SET state = 'COUNTED' WHERE number = 1")

    def test_a_state_that_does_not_exist_is_refused(self, rows: FeedbackRows) -> None:
        rows.register(arrived("1"))
        with pytest.raises(OrgsegError), rows._db.write() as tx:
            tx.run("UPDATE feedback SET state = 'LOST' WHERE number = 1")

    def test_an_alarm_is_written_once_and_stays(self, rows: FeedbackRows) -> None:
        """An organ that was kept in 40 cases, and then thrown away in 8."""
        for number in range(48):
            name = f"{number:064d}"
            rows.register(Arrived(sop_uid=f"1.{number}", sha256=name, path="p", sender="TPS"))
            value = 0.9 + 0.01 * (number % 5)
            organ = OrganFeedback(
                number=0, position=0, roi="Brainstem", organ="brainstem", model="m 1",
                outcome="EDITED" if number < 40 else "DELETED",
                **({"dice": value, "surface_dice_2mm": value, "hd95_mm": 3.0} if number < 40 else {}),
            )  # fmt: skip
            result = FeedbackResult(state=S.COUNTED, job_id=name, contours_sha256=name, organs=(organ,))
            rows.finish(rows.one(number + 1), result)
        fresh = note_alarms(rows._db, FeedbackSection())
        assert {one.measure for one in fresh} == {"deleted"}
        assert note_alarms(rows._db, FeedbackSection()) == []
        assert {one.subject for one in alarms(rows._db)} == {one.subject for one in fresh}
        with pytest.raises(OrgsegError), rows._db.write() as tx:
            tx.run("INSERT INTO feedback_alarm SELECT * FROM feedback_alarm")
        with pytest.raises(OrgsegError), rows._db.write() as tx:
            tx.run("UPDATE feedback_alarm SET number = 999")

    def test_it_can_be_looked_at_again(self, rows: FeedbackRows) -> None:
        rows.register(arrived("1"))
        rows.finish(rows.one(1), counted("20260101", "c1"))
        again = rows.again(1, "by A: other job", job_id="k")
        assert (again.state, again.job_id, rows.organs(1)) == (S.RECEIVED, "k", [])

    def test_when_one_that_counted_is_looked_at_again_the_one_before_counts(self, rows: FeedbackRows) -> None:
        for name in ("1", "2", "3"):
            rows.register(arrived(name))
            rows.finish(rows.one(int(name)), counted(f"2026010{name}", f"c{name}"))
        rows.again(3, "by A: it is of another job", job_id="k")
        assert [one.state for one in rows.all()] == [S.SUPERSEDED, S.COUNTED, S.RECEIVED]
        assert {one.number for one in rows.counted_organs()} == {2}
        rows.finish(rows.one(3), replace(counted("20260103", "c3"), job_id="k"))
        assert [one.state for one in rows.all()] == [S.SUPERSEDED, S.COUNTED, S.COUNTED]

    def test_each_state_can_be_stored(self, rows: FeedbackRows) -> None:
        rows.register(arrived("1"))
        for state in FeedbackState:
            with rows._db.write() as tx:
                tx.run("UPDATE feedback SET state = ? WHERE number = 1", (state,))
            assert rows.one(1).state is state


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_what_came_back_to_an_earlier_version_is_kept(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "node.sqlite"
    server = request.getfixturevalue("postgres").new_database() if dialect == "postgres" else place
    steps = [step for step in schema_steps(dialect) if step.name < "014"]
    with monkeypatch.context() as earlier:
        earlier.setattr("orgseg_node.node.store.database.schema_steps", lambda _dialect: steps)
        before = Database(server)
    old = FeedbackRows(before)
    for name in ("1", "2"):
        old.register(arrived(name))
        old.finish(old.one(int(name)), counted(f"2026010{name}", f"c{name}"))
    with before.write() as tx:
        tx.run("INSERT INTO feedback_alarm VALUES ('brainstem', 'dice', 'm', 'ewma', 2, 0, 'now')")
    expected = (old.all(), old.organs(1), old.organs(2), alarms(before))
    before.close()
    database = Database(server)
    rows = FeedbackRows(database)
    assert (rows.all(), rows.organs(1), rows.organs(2), alarms(database)) == expected
    rows.register(arrived("3"))
    assert rows.finish(rows.one(3), FeedbackResult(state=S.UNUSABLE, job_id="j")) is S.UNUSABLE
    for wrong in (
        "UPDATE feedback SET state = 'COUNTED' WHERE number = 1",
        "UPDATE feedback SET state = 'LOST'",
        "DELETE FROM feedback WHERE number = 2",
        "UPDATE feedback_alarm SET number = 999",
    ):
        with pytest.raises(OrgsegError), database.write() as tx:
            tx.run(wrong)
    database.close()
