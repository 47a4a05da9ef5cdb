"""The log of refused callers: the first at once, the rest once a minute with their number."""

from __future__ import annotations

import structlog

from orgseg_node.node.dimse.reject_log import INTERVAL_S, RateLimitedRejectLog


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_line_a_minute_for_each_caller_with_the_number_of_the_others() -> None:
    clock = Clock()
    refusals = RateLimitedRejectLog(clock)
    with structlog.testing.capture_logs() as lines:
        for _ in range(50):
            refusals.note("association rejected", "A", calling="A")
        refusals.note("association rejected", "B", calling="B")
        assert [line.get("times") for line in lines] == [None, None]
        clock.now = INTERVAL_S - 0.1
        refusals.note("association rejected", "A", calling="A")
        assert len(lines) == 2
        clock.now = INTERVAL_S
        refusals.note("association rejected", "A", calling="A")
        assert [(line["calling"], line.get("times")) for line in lines[2:]] == [("A", 50), ("A", None)]
        refusals.note("association rejected", "A", calling="A")
        refusals.flush(everything=True)
        assert [(line["calling"], line["times"]) for line in lines[4:]] == [("A", 1)]
        refusals.flush(everything=True)
        assert len(lines) == 5


def test_forged_callers_are_counted_together_and_use_no_memory() -> None:
    refusals = RateLimitedRejectLog(Clock())
    with structlog.testing.capture_logs() as lines:
        for number in range(10_000):
            refusals.note("association rejected", f"X{number}", calling=f"X{number}")
        refusals.flush(everything=True)
    assert len(lines) < 250
    assert max(line.get("times", 0) for line in lines) > 9_000
    assert "calling" not in lines[-1]
