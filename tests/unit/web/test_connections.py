"""Half-open HTTP connections are closed, few are allowed, and requests are answered anyway."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from orgseg_node.web.connections import ClosedConnections, connection_limit, limited_protocol
from tests.support.peers.web_server import serving


async def _answer(request: Request) -> Response:
    await request.body()
    return PlainTextResponse("good\n")


@pytest.fixture
def port() -> Iterator[int]:
    routes = [Route("/", _answer, methods=["GET", "POST"])]
    with serving(routes, http=limited_protocol(header_timeout_s=0.5, most=5), ws="none") as number:
        yield number


def _get(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()


def _closed_after_s(connection: socket.socket) -> float:
    began = time.monotonic()
    connection.settimeout(10)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_a_whole_header_is_closed(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(sent)
        assert 0.2 < _closed_after_s(slow) < 5
    assert _get(port) == 200


def test_a_header_that_arrives_byte_by_byte_is_not_waited_for(port: int) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", port)) as slow, contextlib.suppress(ConnectionError):
        for _ in range(100):
            slow.sendall(b"X")
            sent += 1
            time.sleep(0.05)
    assert sent < 50


def test_further_connections_are_closed_at_once_and_those_before_are_answered(port: int) -> None:
    open_ones = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    try:
        time.sleep(0.1)
        with socket.create_connection(("127.0.0.1", port)) as further:
            assert _closed_after_s(further) < 0.3
        open_ones[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in open_ones[0].recv(4096)
    finally:
        for one in open_ones:
            one.close()
    time.sleep(0.1)
    assert _get(port) == 200


def test_a_slow_body_is_not_cut_off_by_the_time_for_the_header(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
        for _ in range(4):
            time.sleep(0.25)
            slow.sendall(b"x")
        slow.settimeout(10)
        assert b"200 OK" in slow.recv(4096)


def test_closed_connections_are_logged_once_a_minute() -> None:
    closed = ClosedConnections()
    with capture_logs() as logs:
        for number in range(1000):
            closed.note("no_request", "10.0.0.9", number / 100)
        closed.note("too_many", "10.0.0.9", 61.0)
    assert [line.get("no_request") for line in logs] == [1, 999]
    assert logs[1]["too_many"] == 1


def test_http_gets_only_a_part_of_the_descriptors() -> None:
    assert 8 <= connection_limit() <= 100
