"""Structure sets that came back and count: good ones first, then worse ones."""

from __future__ import annotations

from orgseg_node.node.feedback.rows import Arrived, FeedbackRows
from tests.support.web.pages_bench import PagesBench

GOOD, BAD, FIRST = 0.98, 0.60, 30


def count_structure_sets(bench: PagesBench, count: int, *, job_id: str = "", roi: str = "Parotid_L") -> None:
    """Have structure sets come back whose parotid was edited little in the first, and much in the others.

    Parameters
    ----------
    bench : with the store
    count : how many
    job_id : of the first one
    roi : name of the organ in them
    """
    rows = FeedbackRows(bench.store.database)
    for index in range(count):
        arrived = Arrived(sop_uid=f"2.25.{index}", sha256=f"{index:064d}", path=f"f{index}", sender="TPS")
        assert rows.register(arrived) == index + 1
        value = (GOOD if index < FIRST else BAD) + 0.002 * (index % 5)
        job = job_id if index == 0 else f"{index:016x}"
        with bench.store.database.write() as tx:
            tx.run(
                "UPDATE feedback SET state = 'COUNTED', job_id = ?, planner = 'p1' WHERE number = ?",
                (job, index + 1),
            )
            tx.run(
                "INSERT INTO feedback_organ (number, position, roi, organ, outcome, model, dice,"
                " surface_dice_2mm, hd95_mm, slices_edited)"
                " VALUES (?, 1, ?, 'parotid_left', 'EDITED', 'hn 1', ?, ?, 2.5, 0.2)",
                (index + 1, roi, value, value),
            )
