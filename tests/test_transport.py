"""HTTP exchanges end by their deadline and say truly whether anything was sent."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fault_server import (
    Behaviour,
    BlackHole,
    FaultServer,
    answer,
    drip_body,
    drip_headers,
    drip_kept_open,
    endless,
    refused_port,
    reset,
    stall,
    stall_after_request,
)

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.transport import REUSED_CONNECTION, Answer, ExchangeFailed, Transport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"


def exchange(
    url: str,
    transport: Transport | None = None,
    *,
    deadline_seconds: float = 0.5,
    **options: object,
) -> Answer:
    transport = transport or Transport()
    return transport.exchange(
        "POST", url, deadline=Deadline.after(deadline_seconds), headers={}, body=b"x", **options
    )  # type: ignore[arg-type]


def failure_of(url: str, **options: object) -> ExchangeFailed:
    with pytest.raises(ExchangeFailed) as caught:
        exchange(url, **options)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "behaviour", [stall, stall_after_request, drip_headers, drip_body, drip_kept_open]
)
def test_whatever_the_server_holds_back_the_deadline_ends_the_call(
    behaviour: Behaviour, scheme: str
) -> None:
    with FaultServer(behaviour) as server:
        failed = failure_of(server.url.replace("http", scheme))
        assert failed.reason == "timeout"
        # Ended by us: the server is still at it, and would be for a minute.
        assert not server.closing.is_set()
        assert failed.sent is (scheme == "http")


def test_an_address_that_never_connects_ends_by_the_deadline_and_nothing_was_sent() -> None:
    with BlackHole() as hole:
        failed = failure_of(hole.url)
    assert (failed.reason, failed.sent) == ("timeout", False)


def test_a_deadline_that_has_passed_already_sends_nothing() -> None:
    with FaultServer(answer(OK)) as server:
        failed = failure_of(server.url, deadline_seconds=0)
        assert (failed.reason, failed.sent, server.requests) == ("timeout", False, [])


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "no-such-host.invalid"])
def test_a_refused_or_unknown_address_is_unreachable_and_nothing_was_sent(host: str) -> None:
    failed = failure_of(f"http://{host.format(port=refused_port())}", deadline_seconds=30)
    assert (failed.reason, failed.sent) == ("unreachable", False)


def test_a_reset_after_the_request_may_have_been_sent() -> None:
    with FaultServer(reset) as server:
        failed = failure_of(server.url, deadline_seconds=30, repeatable=False)
    assert (failed.reason, failed.sent) == ("broken", True)


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
        b"",
    ],
)
def test_an_answer_that_is_cut_is_no_answer(cut: bytes) -> None:
    def serve(server: FaultServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(cut)

    with FaultServer(serve) as server:
        failed = failure_of(server.url, deadline_seconds=30, repeatable=False)
        assert (failed.reason, failed.sent, len(server.requests)) == ("broken", True, 1)


def test_an_answer_without_end_is_cut_off_at_its_limit() -> None:
    with FaultServer(endless) as server:
        failed = failure_of(
            server.url, transport=Transport(maximum_answer_bytes=1024 * 1024), deadline_seconds=30
        )
    assert failed.reason == "too_large"


@pytest.mark.parametrize(
    "url", ["http://exa mple", "http://[::1", "http://127.0.0.1:99999", "no address"]
)
def test_what_is_no_address_is_told_as_such(url: str) -> None:
    assert failure_of(url).reason == "address"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_answers_and_never_followed(status: int) -> None:
    with FaultServer(
        answer(b"HTTP/1.1 %d X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n" % status)
    ) as server:
        found = exchange(server.url, deadline_seconds=30)
        assert (found.status, found.headers["location"]) == (status, "/other")
        assert server.requests == [b"POST / HTTP/1.1"]


def one_request_a_connection(server: FaultServer, connection: socket.socket) -> None:
    """Keeps the connection open after the answer, and drops it when the next request comes."""
    server.read_request(connection)
    connection.sendall(OK)
    server.read_request(connection)


def test_a_repeatable_request_on_a_connection_that_the_server_had_dropped_is_sent_again() -> None:
    transport = Transport()
    with FaultServer(one_request_a_connection) as server:
        exchange(server.url, transport, deadline_seconds=30)
        assert exchange(server.url, transport, deadline_seconds=30).status == 200
        assert len(server.requests) == 3


def test_a_request_that_is_not_repeatable_is_never_sent_twice() -> None:
    transport = Transport()
    with FaultServer(one_request_a_connection) as server:
        exchange(server.url, transport, deadline_seconds=30)
        failed = failure_of(server.url, transport=transport, deadline_seconds=30, repeatable=False)
        assert failed.sent
        assert len(server.requests) == 2


def test_a_connection_is_used_again_and_serves_many_requests() -> None:
    transport = Transport()
    with FaultServer(answer(OK)) as server:
        for _ in range(5):
            assert exchange(server.url, transport, deadline_seconds=30).body == b"[]"
        accepted = server.connections
    assert accepted == 1


def test_a_login_in_netrc_does_not_replace_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    heads = []

    def serve(server: FaultServer, connection: socket.socket) -> None:
        heads.append(server.read_request(connection))
        connection.sendall(OK)

    with FaultServer(serve) as server:
        Transport().exchange(
            "GET",
            server.url,
            deadline=Deadline.after(30),
            headers={"Authorization": "Basic b3Vycw=="},
        )
    assert b"Authorization: Basic b3Vycw==" in heads[0]


def test_a_loopback_address_never_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{refused_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with FaultServer(answer(OK)) as server:
        assert exchange(server.url, deadline_seconds=30).status == 200


def test_a_certificate_that_nobody_vouches_for_is_refused_and_nothing_is_sent(
    tmp_path: Path,
) -> None:
    certificate = _self_signed_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(server: FaultServer, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            server.read_request(secured)

    with FaultServer(serve) as server:
        failed = failure_of(server.url.replace("http", "https"), deadline_seconds=30)
        assert (failed.reason, failed.sent, server.requests) == ("certificate", False, [])


def _self_signed_certificate(directory: Path) -> Path:
    file = directory / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
    subprocess.run(
        [*command.split(), "-keyout", str(file), "-out", str(directory / "public.pem")],
        check=True,
        capture_output=True,
    )
    with file.open("a") as whole:
        whole.write((directory / "public.pem").read_text())
    return file


def test_a_hang_on_a_connection_that_had_served_before_says_so_and_idle_ones_are_not_trusted() -> (
    None
):
    """As where something in between forgets connections: the next call gets a new one."""

    def once_a_connection(server: FaultServer, connection: socket.socket) -> None:
        served = False
        while server.read_request(connection):
            if served:
                server.closing.wait(10)
                return
            time.sleep(0.1)
            connection.sendall(OK)
            served = True

    transport = Transport()
    with FaultServer(once_a_connection) as server, ThreadPoolExecutor(2) as both:
        assert [each.status for each in both.map(lambda _: exchange(server.url, transport), "12")] == [200, 200]  # fmt: skip
        assert server.connections == 2
        with pytest.raises(ExchangeFailed, match=f"deadline, {REUSED_CONNECTION}") as caught:
            exchange(server.url, transport)
        assert caught.value.reason == "timeout"
        # The other idle one would hang as well.
        assert exchange(server.url, transport).status == 200
        assert server.connections == 3
    with FaultServer(stall_after_request) as server:
        assert REUSED_CONNECTION not in str(failure_of(server.url))
