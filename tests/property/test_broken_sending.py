"""Random ways in which a sender breaks off and comes again: what may be half a CT never looks whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orgseg_node.node.store.model import JobState, SeriesState
from tests.support.ct.phantom import PhantomOptions
from tests.unit.node.intake.test_broken_transfers import Broken

COUNT = 6
SMALL = PhantomOptions(slices=COUNT, rows=16, columns=16, pixel_spacing_mm=(16.0, 16.0))


class Sender:
    """Sends the images of a CT in order, over one association after the other.

    Attributes
    ----------
    sent : images that arrived
    is_broken : whether the last association broke off
    """

    def __init__(self, node: Broken, draw: random.Random) -> None:
        self.node = node
        self.sent = 3  # by the node's own set-up, over association 1
        self.is_broken = False
        self._draw = draw
        self._association = 1

    def end(self) -> None:
        """End the association in order, or in one of the ways in which it breaks off."""
        way = self._draw.choice(("release", "abort", "in an image", "restart"))
        if way == "release":
            self.node.inbox.association_ended(self._association, released=True)
        elif way == "restart":
            self.node.store.close()
            self.node.start()
            self.node.inbox.adopt()
        else:
            uid = self.node.series().series_uid
            incomplete = uid if way == "in an image" else ""
            self.node.inbox.association_ended(self._association, cause="A-ABORT", incomplete=incomplete)
        self.is_broken = way != "release"

    def come_again(self) -> None:
        """Send some images over a new association: from the first one, or from where it broke off."""
        self._association += 1
        self.node.after(self._draw.choice((0.5, 2.0, 100.0)))
        first = self._draw.choice((0, self.sent))
        until = self._draw.randint(first, COUNT)
        for path in self.node.files[first:until]:
            self.node.take(path, association=self._association)
        self.sent = max(self.sent, until)


@pytest.mark.parametrize("seed", range(12))
def test_half_a_ct_after_a_break_is_never_contoured_without_a_word(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    node = Broken(tmp_path, SMALL)
    sender = Sender(node, draw)
    sender.end()
    for _ in range(draw.randint(0, 3)):
        sender.come_again()
        sender.end()
    while node.after(300) is SeriesState.RECEIVING:
        pass
    series = node.series()
    jobs = [job for job in node.store.jobs() if job.state is not JobState.SUPERSEDED]
    assert len(jobs) == (series.state is SeriesState.READY)
    if sender.is_broken and series.state is SeriesState.READY:
        assert jobs[0].remark.startswith("BROKEN OFF")
    if not sender.is_broken and sender.sent == COUNT:
        assert (series.state, jobs[0].remark) == (SeriesState.READY, "")
    node.store.close()
