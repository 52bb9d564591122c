"""The sandbox's HTTP server reads what clients send in whatever pieces, and refuses what is not HTTP."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from running_sandbox import RunningSandbox

from runbook_lib.sandbox.application import Application
from runbook_lib.sandbox.faults import FaultRefused, read_fault
from runbook_lib.sandbox.messages import Request
from runbook_lib.sandbox.storage import Storage

INDEX = b"GET /wp-json/?_fields=name HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _connect(sandbox: RunningSandbox) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(sandbox.url).port or 0), timeout=10)


def _read_until_end(connected: socket.socket) -> bytes:
    heard = b""
    while piece := connected.recv(65_536):
        heard += piece
    return heard


def test_one_connection_serves_requests_one_after_another(running_sandbox: RunningSandbox) -> None:
    with _connect(running_sandbox) as connected:
        connected.sendall(INDEX + INDEX.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert _read_until_end(connected).count(b"HTTP/1.1 200 OK") == 2


def test_a_body_may_come_in_chunks(running_sandbox: RunningSandbox) -> None:
    with _connect(running_sandbox) as connected:
        connected.sendall(
            b"POST /_sandbox/categories HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'b\r\n{"names": [\r\n8;x=y\r\n"Chunk"]\r\n1\r\n}\r\n0\r\n\r\n'
        )
        answer = _read_until_end(connected)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'{"Chunk":' in answer


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(
    running_sandbox: RunningSandbox,
) -> None:
    with _connect(running_sandbox) as connected:
        connected.sendall(
            b"POST /_sandbox/categories HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: 13\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connected.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connected.sendall(b'{"names": []}')
        assert b"HTTP/1.1 200 OK" in _read_until_end(connected)


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_server_goes_on(
    running_sandbox: RunningSandbox, sent: bytes
) -> None:
    with _connect(running_sandbox) as connected:
        connected.sendall(sent)
        assert connected.recv(100).startswith(b"HTTP/1.1 400 Bad Request")
    assert running_sandbox.wordpress("GET", "/").status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_request_did_nothing(
    running_sandbox: RunningSandbox,
) -> None:
    with _connect(running_sandbox) as connected:
        connected.sendall(b"POST /wp-json/wp/v2/posts HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
    assert running_sandbox.control.journal() == []


def test_head_has_the_headers_and_no_body(running_sandbox: RunningSandbox) -> None:
    with _connect(running_sandbox) as connected:
        connected.sendall(
            INDEX.replace(b"GET", b"HEAD").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        head, _, body = _read_until_end(connected).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b""


def test_a_fault_may_be_bound_to_how_many_requests_are_under_way(tmp_path: Path) -> None:
    """As an account that takes so many at a time: what comes above it is refused, and later it is not."""
    application = Application(Storage(tmp_path / "sandbox.sqlite"))
    for switch in (
        {"provider": "openai", "kind": "rate_limit", "above": 2},
        {"provider": "openai", "kind": "latency", "delay_seconds": 0.05},
    ):
        application.faults.add(read_fault(switch, 0))
    request = Request("GET", "/v1/models", {"authorization": "Bearer wrong"})

    async def ask(times: int) -> list[int]:
        answers = await asyncio.gather(*(application(request) for _ in range(times)))
        return sorted(answer.status for answer in answers)

    async def both() -> tuple[list[int], list[int]]:
        return await ask(5), await ask(2)

    assert asyncio.run(both()) == ([401, 401, 429, 429, 429], [401, 401])
    with pytest.raises(FaultRefused, match="above is a whole number from 1"):
        read_fault({"provider": "openai", "kind": "rate_limit", "above": 0}, 0)
