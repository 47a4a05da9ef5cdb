"""Splits a multipart/related body into parts while it arrives (RFC 2387); the size of a part is limited.

A large part is written to a file, so that memory does not limit it.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from orgseg_node.errors import NotMultipart, TooLarge
from orgseg_node.node.dimse.received_dataset import ReceivedDataset

_MAX_HEADERS: Final = 16
_MAX_HEADER_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part: its content, and its media type in lower case without parameters."""

    media_type: str
    content: ReceivedDataset


def boundary_of(content_type: str, wanted: str) -> str | None:
    """The boundary of a multipart/related body with a given media type; None for other bodies."""
    message = Message()
    message["Content-Type"] = content_type
    if message.get_content_type() != "multipart/related":
        return None
    root = str(message.get_param("type") or wanted)
    boundary = message.get_param("boundary")
    if root.lower() != wanted or not isinstance(boundary, str) or not boundary:
        return None
    return boundary


class PartReader:
    """Collects parts.

    Parameters
    ----------
    boundary : separates the parts
    max_bytes : largest part that is accepted
    folder : for large parts

    Raises
    ------
    NotMultipart
        If the boundary is not valid.
    """

    def __init__(self, boundary: str, max_bytes: int, folder: Path) -> None:
        self._max = max_bytes
        self._folder = folder
        self._field = bytearray()
        self._value = bytearray()
        self._media_type = ""
        self._content = ReceivedDataset(folder)
        self._complete: list[Part] = []
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary.encode("latin-1"),
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._header_end,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._over,
                },
                max_header_count=_MAX_HEADERS,
                max_header_size=_MAX_HEADER_BYTES,
            )
        except (FormParserError, UnicodeEncodeError) as error:
            raise NotMultipart("Its boundary is not valid.") from error

    def feed(self, data: bytes) -> list[Part]:
        """Read more data; the parts that are complete now.

        Raises
        ------
        NotMultipart
            If it is not a multipart body.
        TooLarge
            If a part is larger than allowed.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise NotMultipart from error
        complete, self._complete = self._complete, []
        return complete

    def finish(self) -> None:
        """Check that the body is complete. Raises NotMultipart if it is not."""
        if not self._ended:
            raise NotMultipart("It ends before its last boundary.")

    def _begin(self) -> None:
        self._media_type = ""
        self._content = ReceivedDataset(self._folder)

    def discard(self) -> None:
        """Delete what was received of a part that is not complete."""
        self._content.discard()

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-type":
            self._media_type = self._value.decode("latin-1").split(";")[0].strip().lower()
        self._field, self._value = bytearray(), bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._content.count + end - start > self._max:
            raise TooLarge(f"A part has more than {self._max // 1_000_000} MB.")
        self._content.write(data[start:end])

    def _end(self) -> None:
        self._complete.append(Part(media_type=self._media_type, content=self._content))
        self._content = ReceivedDataset(self._folder)

    def _over(self) -> None:
        self._ended = True
