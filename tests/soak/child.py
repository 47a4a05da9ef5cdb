"""The child of the soak: ``python -m tests.soak.child REQUEST.json``, or ``--wait`` for one.

It speaks to the node as the real child does, tells its progress, and writes two objects of the right classes
with UIDs of the job; but it contours nothing, because the node is what is watched, and five hundred real
contourings take half an hour of starting Python alone. The kill test runs the real child.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, SegmentationStorage

from orgseg_node.node.processing.warm_worker import WAIT, wait_for_request


def main(request: Path) -> None:
    """Do what the request file says."""
    asked = json.loads(request.read_text(encoding="utf-8"))
    out = Path(asked["out"])
    out.mkdir(parents=True, exist_ok=True)
    for number, state in enumerate(("PREPARING", "INFERRING", "WRITING", "CHECKING")):
        for part in range(5):
            say(event="progress", state=state, fraction=(number + part / 5) / 4, text=f"{state} {part}")
    objects = []
    for role, kind in (("RTSTRUCT", RTStructureSetStorage), ("SEG", SegmentationStorage)):
        dataset = Dataset()
        dataset.SOPClassUID = kind
        dataset.SOPInstanceUID = (
            f"2.25.{int(hashlib.sha256((asked['job_id'] + role).encode()).hexdigest()[:30], 16)}"
        )
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        path = out / f"{role}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        objects.append({"role": role, "path": str(path), "sop_uid": dataset.SOPInstanceUID, "sha256": digest})
    say(event="done", objects=objects, held=[])


def say(**message: object) -> None:
    """One line to the node."""
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    file = wait_for_request() if sys.argv[1] == WAIT else sys.argv[1]
    if file:
        main(Path(file))
