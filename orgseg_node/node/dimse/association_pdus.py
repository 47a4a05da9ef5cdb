"""Association requests and answers of peers that deviate from PS3.8, made readable for pynetdicom.

pynetdicom aborts an association at the first byte it does not expect, without a reason. What is harmless and
what other systems accept is corrected here before it is decoded: padding by NUL, items and sub-items that the
standard does not define, an implementation version name of more than 16 characters, bits of other versions of
the protocol. Contexts and sub-items that say nothing are left out, and so are those of services that the node
does not offer: user identity, asynchronous operations and extended negotiation (PS3.7 D.3.3). A title that is
no AE title gets question marks, so that it matches no listed peer and is rejected with its reason.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import structlog

REQUEST: Final = 0x01
ACCEPT: Final = 0x02

_HEADER: Final = 6
_FIXED: Final = 68  # from the protocol version to the reserved bytes, PS3.8 9.3.2
_TITLE: Final = 16
_ITEMS: Final = {REQUEST: (0x10, 0x20, 0x50), ACCEPT: (0x10, 0x21, 0x50)}
_PROPOSED: Final = 0x20
_CONTEXTS: Final = (_PROPOSED, 0x21)
_ABSTRACT, _TRANSFER = 0x30, 0x40
_USER: Final = 0x50
_MAX_LENGTH, _IMPLEMENTATION, _ROLE, _VERSION_NAME = 0x51, 0x52, 0x54, 0x55
_LONGEST_UID: Final = 64

_log = structlog.get_logger("orgseg.receiver")


def readable(kind: int, body: bytes) -> bytes:
    """The body of an A-ASSOCIATE-RQ or -AC without harmless deviations; unchanged if it cannot be parsed.

    Parameters
    ----------
    kind : REQUEST or ACCEPT, the type of the PDU
    body : the PDU after its length
    """
    try:
        items = [
            (item, _corrected(item, content))
            for item, content in _items(body[_FIXED:])
            if item in _ITEMS[kind]
        ]
    except ValueError:
        return body
    kept = b"".join(_item(item, content) for item, content in items if content is not None)
    titles = b"".join(_title(body[start : start + _TITLE], kind) for start in (4, 4 + _TITLE))
    is_version_1 = body[1] & 1  # of the bits of the versions only this one counts, PS3.8 9.3.2
    versions = b"\0\1" if is_version_1 else body[:2]
    return versions + body[2:4] + titles + body[4 + 2 * _TITLE : _FIXED] + kept


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The items of a PDU or of an item. Raises ValueError if one is not complete."""
    at = 0
    while at < len(content):
        if len(content) - at < 4:
            raise ValueError("not complete")
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if len(content) - at - 4 < length:
            raise ValueError("not complete")
        yield content[at], content[at + 4 : at + 4 + length]
        at += 4 + length


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def _corrected(item: int, content: bytes) -> bytes | None:
    """The content of an item without deviations; None if it is left out. Raises ValueError."""
    if item in _CONTEXTS:
        return _context(item, content)
    if item == _USER:
        subs = ((sub, _user_item(sub, name)) for sub, name in _items(content))
        return b"".join(_item(sub, name) for sub, name in subs if name)
    return content.strip(b" \0")


def _context(item: int, content: bytes) -> bytes | None:
    """A presentation context with the UIDs that can be one; None if it is left out. Raises ValueError."""
    parts = [(sub, name.strip(b" \0")) for sub, name in _items(content[4:]) if sub in (_ABSTRACT, _TRANSFER)]
    if item == _PROPOSED:
        parts = [(sub, name) for sub, name in parts if _may_be_uid(name)]
    kinds = [sub for sub, _ in parts]
    why = ""
    if not content or content[0] % 2 == 0:
        why = "its number is even"
    elif item == _PROPOSED and not (kinds.count(_ABSTRACT) == 1 and _TRANSFER in kinds):
        why = "it has no SOP class or no transfer syntax"
    if why:
        _log.warning("presentation context left out", why=why, number=content[0] if content else None)
        return None
    return content[:4] + b"".join(_item(sub, name) for sub, name in parts)


def _user_item(sub: int, content: bytes) -> bytes:
    """The content of a sub-item of the user information; empty if it is left out."""
    if sub == _VERSION_NAME:
        return _version_name(content)
    if sub == _IMPLEMENTATION:
        uid = content.strip(b" \0")
        return uid if _may_be_uid(uid) else b""
    if sub == _MAX_LENGTH:
        return content if len(content) == struct.calcsize(">I") else b""
    return content if sub == _ROLE and _is_role(content) else b""


def _is_role(content: bytes) -> bool:
    """Whether it is a role selection: length and UID of a SOP class, and two roles of 0 or 1."""
    length = int.from_bytes(content[:2], "big")
    return len(content) == length + 4 and _may_be_uid(content[2:-2]) and max(content[-2:]) <= 1


def _may_be_uid(name: bytes) -> bool:
    """Whether a text may stand for a UID; some are known to contain letters."""
    return 0 < len(name) <= _LONGEST_UID and name.isascii()


def _version_name(content: bytes) -> bytes:
    return _printable(content.strip(b" \0"))[:_TITLE].strip()


def _title(raw: bytes, kind: int) -> bytes:
    """An AE title padded by spaces; in an answer the titles have no meaning (PS3.8 9.3.3)."""
    if kind == ACCEPT:
        return b"ANY".ljust(_TITLE)
    title = _printable(raw.partition(b"\0")[0].strip(b" "))
    return (title or b"?").ljust(_TITLE)


def _printable(raw: bytes) -> bytes:
    return bytes(byte if 0x20 <= byte < 0x7F and byte != 0x5C else ord("?") for byte in raw)


class ReadableAssociationPdus:
    """Reads from a connection and makes the PDUs of the negotiation readable.

    Parameters
    ----------
    read : reads a number of bytes; fewer only if the connection ended
    longest : longer PDUs are passed on unread
    """

    def __init__(self, read: Callable[[int], bytearray], longest: int) -> None:
        self._read = read
        self._longest = longest
        self._waiting = bytearray()
        self._first = True

    def recv(self, count: int) -> bytearray:
        """Read a number of bytes; fewer only if the connection ended."""
        if self._waiting:
            taken, self._waiting = self._waiting[:count], self._waiting[count:]
            return taken
        header = self._read(count)
        first, self._first = self._first, False
        if not first or count != _HEADER or len(header) != _HEADER or header[0] not in _ITEMS:
            return header
        length = int.from_bytes(header[2:], "big")
        if not _FIXED <= length <= self._longest:
            return header
        body = self._read(length)
        if len(body) == length:
            body = bytearray(readable(header[0], bytes(body)))
            length = len(body)
        self._waiting = body
        return header[:2] + struct.pack(">I", length)


def make_readable(connection: Any, longest: int) -> None:
    """Make the negotiation readable that is read from a connection from now on.

    Parameters
    ----------
    connection : pynetdicom's socket of an association
    longest : longest PDU that is corrected, in bytes
    """
    connection.recv = ReadableAssociationPdus(connection.recv, longest).recv
