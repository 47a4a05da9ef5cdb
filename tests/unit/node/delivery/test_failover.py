"""When an object that a destination does not accept goes to its alternate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orgseg_node.errors import NotDicom, OrgsegError, StoreRefused, Unreachable
from orgseg_node.node.config.destinations import Destination
from orgseg_node.node.delivery.failover import is_due, is_permanent
from orgseg_node.node.store.model import Confirmation, Delivery, DeliveryState

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PLACE = Destination(ae_title="TPS", host="tps", port=104, alternate="backup", alternate_after_h=2)
DELIVERY = Delivery(
    job_id="0" * 16, role="SEG", destination="tps", path="SEG.dcm", sop_uid="1.2",
    state=DeliveryState.SENDING, attempts=1, status=None, note="", next_attempt_at=NOW, first_attempt_at=NOW,
)  # fmt: skip


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0x0110, 0x0213])
def test_missing_resources_are_temporary(status: int) -> None:
    assert not is_permanent(StoreRefused("no", status=status))


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122, 0x0124, None])
def test_an_object_that_is_not_understood_is_refused_permanently(status: int | None) -> None:
    assert is_permanent(StoreRefused("no", status=status))


def test_a_missing_answer_is_not_permanent() -> None:
    assert not is_permanent(Unreachable("gone"))


@pytest.mark.parametrize(
    ("error", "hours", "due"),
    [
        (Unreachable("gone"), 0, False),
        (Unreachable("gone"), 1.9, False),
        (Unreachable("gone"), 2, True),
        (StoreRefused("full", status=0xA700), 1.9, False),
        (StoreRefused("full", status=0xA700), 2, True),
        (StoreRefused("no", status=0xC000), 0, True),
        (NotDicom("SEG.dcm"), 100, False),
    ],
)
def test_the_alternate_is_used_after_its_time_or_a_permanent_refusal(
    error: OrgsegError,
    hours: float,
    due: bool,  # noqa: FBT001  # a table
) -> None:
    assert is_due(DELIVERY, PLACE, error, NOW + timedelta(hours=hours)) is due
    without = PLACE.model_copy(update={"alternate": None})
    assert not is_due(DELIVERY, without, error, NOW + timedelta(hours=hours))


@pytest.mark.parametrize(
    ("state", "confirmation", "words"),
    [
        (DeliveryState.STORED, Confirmation.NONE, "stored"),
        (DeliveryState.STORED, Confirmation.WANTED, "stored, waiting for the confirmation"),
        (DeliveryState.STORED, Confirmation.WAIVED, "stored, not confirmed"),
        (DeliveryState.COMMITTED, Confirmation.WANTED, "confirmed by the archive"),
        (DeliveryState.RETRY_WAIT, Confirmation.WANTED, "retry wait"),
    ],
)
def test_an_outcome_describes_the_response_of_the_destination(
    state: DeliveryState, confirmation: Confirmation, words: str
) -> None:
    assert replace(DELIVERY, state=state, confirmation=confirmation).outcome == words
