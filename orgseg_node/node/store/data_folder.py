"""The folders inside the node's data folder."""

from __future__ import annotations

from typing import Final

INBOX: Final = "inbox"
"""Accepted images, in a folder for each series."""

JOBS: Final = "jobs"
"""A folder for each job: request, log, objects."""

SLICES: Final = "slices.json"
"""In the folder of a job: where the slices of the CT are that was contoured."""

RESULT: Final = "out"
"""Folder in that of a job for what the networks found, and the objects made from it."""

QUARANTINE: Final = "quarantine"
"""Files that were set aside: not completely written, or the losers of a conflict. Nothing here is deleted."""

SHADOW: Final = "shadow"
"""What a version in the shadow writes, until it is compared."""

LOCKS: Final = "locks"
"""A lock file for each device that computes."""

PURGING: Final = "purging"
"""Folders of series that retention is deleting."""

FEEDBACK: Final = "feedback"
"""Structure sets that came back, each under the hash of its content. Nothing here is deleted."""

PROTOCOLS: Final = "protocols"
"""Texts of protocols that were changed on the node, before and after, each under the hash of its content."""
