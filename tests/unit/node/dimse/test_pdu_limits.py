"""No caller takes more memory or time than it is allowed."""

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
class Connection:
    """The object in which pynetdicom wraps a socket."""

    socket: socket.socket


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        yield mine, theirs


def test_a_pdu_that_arrives_in_pieces_is_read_completely(pair: tuple[socket.socket, socket.socket]) -> None:
    mine, theirs = pair
    limits = ConnectionLimits(connection=Connection(mine), pdu_s=5, message_bytes=100)
    theirs.sendall(b"abc")
    theirs.sendall(b"defg")
    assert limits.recv(6) == b"abcdef"
    theirs.close()
    assert limits.recv(6) == b"g", "the connection ended"
    assert mine.gettimeout() is None, "sending waits as before"


def test_a_pdu_with_an_impossible_length_is_refused_at_once(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    mine, theirs = pair
    limits = ConnectionLimits(connection=Connection(mine), pdu_s=5, message_bytes=1 << 40)
    with pytest.raises(OSError, match="PDU of"):
        limits.recv(MAX_PDU_LENGTH + 1)
    assert theirs.recv(1) == b"", "the caller is disconnected"


def test_a_message_is_bounded_and_the_next_begins_again(pair: tuple[socket.socket, socket.socket]) -> None:
    mine, theirs = pair
    connection = Connection(mine)
    limit_connection(connection, pdu_s=5, message_bytes=10)
    theirs.sendall(bytes(30))
    assert len(connection.recv(8)) == 8  # type: ignore[attr-defined]
    message_ended(connection)
    assert len(connection.recv(8)) == 8  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="exceeded 10"):
        connection.recv(3)  # type: ignore[attr-defined]


def test_slow_bytes_do_not_extend_the_time_limit(pair: tuple[socket.socket, socket.socket]) -> None:
    mine, theirs = pair
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        theirs.sendall(b"x")
        return now

    limits = ConnectionLimits(connection=Connection(mine), pdu_s=20.5, message_bytes=1000, clock=clock)
    with pytest.raises(OSError, match=r"not complete within 20\.5 s"):
        limits.recv(100)
    assert now < 30
