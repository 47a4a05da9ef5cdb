"""No caller takes more memory or time than it is given."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from orgseg_node.node.dimse.pdu_limits import (
    MAX_PDU_LENGTH,
    ConnectionLimits,
    limit_connection,
    message_ended,
)


@dataclass
class Line:
    """What pynetdicom wraps a socket in."""

    socket: socket.socket


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        yield mine, theirs


def test_what_comes_in_pieces_is_read_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    mine, theirs = pair
    guard = ConnectionLimits(line=Line(mine), pdu_s=5, message_bytes=100)
    theirs.sendall(b"abc")
    theirs.sendall(b"defg")
    assert guard.recv(6) == b"abcdef"
    theirs.close()
    assert guard.recv(6) == b"g", "the connection ended"
    assert mine.gettimeout() is None, "sending waits as before"


def test_a_length_no_pdu_has_is_not_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    mine, theirs = pair
    guard = ConnectionLimits(line=Line(mine), pdu_s=5, message_bytes=1 << 40)
    with pytest.raises(OSError, match="PDU of"):
        guard.recv(MAX_PDU_LENGTH + 1)
    assert theirs.recv(1) == b"", "the caller is cut off"


def test_a_message_is_bounded_and_the_next_begins_anew(pair: tuple[socket.socket, socket.socket]) -> None:
    mine, theirs = pair
    line = Line(mine)
    limit_connection(line, pdu_s=5, message_bytes=10)
    theirs.sendall(bytes(30))
    assert len(line.recv(8)) == 8  # type: ignore[attr-defined]
    message_ended(line)
    assert len(line.recv(8)) == 8  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="grew beyond 10"):
        line.recv(3)  # type: ignore[attr-defined]


def test_bytes_that_trickle_do_not_extend_the_time(pair: tuple[socket.socket, socket.socket]) -> None:
    mine, theirs = pair
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        theirs.sendall(b"x")
        return now

    guard = ConnectionLimits(line=Line(mine), pdu_s=20.5, message_bytes=1000, clock=clock)
    with pytest.raises(OSError, match=r"not complete within 20\.5 s"):
        guard.recv(100)
    assert now < 30
