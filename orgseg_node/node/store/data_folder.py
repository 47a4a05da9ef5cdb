"""The folders inside the node's data folder."""

from __future__ import annotations

from typing import Final

INBOX: Final = "inbox"


QUARANTINE: Final = "quarantine"


JOBS: Final = "jobs"


LOCKS: Final = "locks"


PURGING: Final = "purging"
