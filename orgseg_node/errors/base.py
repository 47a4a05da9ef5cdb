"""The base class of all errors."""

from __future__ import annotations

from typing import ClassVar


class OrgsegError(Exception):
    """Something in the node went wrong."""

    code: ClassVar[str] = "ORGSEG"
    retryable: ClassVar[bool] = False
    exit_status: ClassVar[int] = 1
    next_step: ClassVar[str] = "Send the log and this code to the person who maintains the node."

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(detail)

    @property
    def sentence(self) -> str:
        """The sentence for the operator, with the detail of this case."""
        first = (type(self).__doc__ or "").strip().splitlines()[0]
        return f"{first} {self.detail}".strip()

    def __str__(self) -> str:
        return f"[{self.code}] {self.sentence}"
