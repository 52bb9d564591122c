"""The network proxy does to a connection what it was told, and goes back when it is told so."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from runbook_lib.errors import UsageError
from runbook_lib.rehearsal.certificates import site_certificate
from runbook_lib.sandbox.proxy import FAULTS, NetworkProxy

SHORT_SECONDS = 0.2
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="there is no program openssl to make a certificate with"
)


class Echo:
    """A server that sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.received = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                found, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(found,), daemon=True).start()

    def _serve(self, found: socket.socket) -> None:
        with found:
            try:
                while piece := found.recv(65_536):
                    self.received += piece
                    found.sendall(piece)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[NetworkProxy]:
    with NetworkProxy("127.0.0.1", echo.port) as started:
        yield started


@pytest.fixture
def client(proxy: NetworkProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connected:
        assert _say(connected, b"hello") == b"hello"
        yield connected


def _say(connected: socket.socket, words: bytes) -> bytes:
    connected.sendall(words)
    return _hear(connected, len(words))


def _hear(connected: socket.socket, length: int) -> bytes:
    heard = b""
    while len(heard) < length and (piece := connected.recv(length - len(heard))):
        heard += piece
    return heard


def _is_silent(connected: socket.socket) -> bool:
    connected.settimeout(SHORT_SECONDS)
    try:
        connected.recv(1)
    except TimeoutError:
        return True
    finally:
        connected.settimeout(10)
    return False


def test_without_a_fault_everything_passes(client: socket.socket, proxy: NetworkProxy) -> None:
    words = bytes(range(256)) * 2_000
    assert _say(client, words) == words
    assert proxy.connections() == 1


def test_an_orderly_end_passes_in_both_directions(client: socket.socket) -> None:
    client.sendall(b"last words")
    client.shutdown(socket.SHUT_WR)
    assert _hear(client, 100) == b"last words"


def test_stalled_data_arrives_once_the_stall_is_over(
    client: socket.socket, proxy: NetworkProxy
) -> None:
    proxy.set_fault("stall")
    client.sendall(b"waits")
    assert _is_silent(client)
    proxy.clear_fault()
    assert _hear(client, 5) == b"waits"


def test_a_stalled_link_still_acknowledges_what_is_sent(
    client: socket.socket, proxy: NetworkProxy
) -> None:
    proxy.set_fault("stall")
    client.sendall(b"x" * 50_000)
    unsent = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert unsent[0] == 1  # TCP_ESTABLISHED, although nothing comes


def test_what_fell_into_a_black_hole_never_arrives(
    client: socket.socket, proxy: NetworkProxy, echo: Echo
) -> None:
    proxy.set_fault("black_hole")
    client.sendall(b"gone")
    assert _is_silent(client)
    proxy.clear_fault()
    assert _say(client, b"here") == b"here"
    assert echo.received == b"hellohere"


def test_one_way_lets_the_request_pass_and_not_the_answer(client: socket.socket, proxy: NetworkProxy, echo: Echo) -> None:  # fmt: skip
    proxy.set_fault("one_way")
    client.sendall(b"did you hear?")
    assert _is_silent(client)
    assert echo.received == b"hellodid you hear?"


def test_a_reset_hits_open_and_new_connections(client: socket.socket, proxy: NetworkProxy) -> None:
    proxy.set_fault("reset")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert _is_reset(proxy.port)


def _is_reset(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as new:
            return new.recv(1) == b"never"
    except ConnectionResetError:  # perhaps before the connection was seen to stand
        return True


def test_refused_means_that_nobody_listens_and_open_connections_go_on(
    client: socket.socket, proxy: NetworkProxy
) -> None:
    proxy.set_fault("refuse")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    assert _say(client, b"still") == b"still"
    port = proxy.port
    proxy.clear_fault()
    assert proxy.port == port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as new:
        assert _say(new, b"again") == b"again"


def test_a_cut_ends_the_connection_after_so_many_bytes(proxy: NetworkProxy) -> None:
    proxy.set_fault("cut", after_bytes=7)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connected:
        connected.sendall(b"0123456789")
        assert _hear(connected, 10) == b"0123456"


def test_a_drip_brings_a_byte_at_a_time_and_the_rest_when_it_ends(
    client: socket.socket, proxy: NetworkProxy
) -> None:
    proxy.set_fault("drip", interval_seconds=0.05)
    client.sendall(b"0123456789" * 50)
    first = client.recv(500)
    assert len(first) < 500
    proxy.clear_fault()
    assert first + _hear(client, 500 - len(first)) == b"0123456789" * 50


def test_latency_holds_each_piece_for_its_time(client: socket.socket, proxy: NetworkProxy) -> None:
    proxy.set_fault("latency", delay_seconds=SHORT_SECONDS)
    client.sendall(b"slow")
    assert _is_silent(client)
    assert _hear(client, 4) == b"slow"


def test_a_server_that_is_away_ends_the_clients_connection() -> None:
    with NetworkProxy("127.0.0.1", _free_port()) as proxy:
        assert _is_reset(proxy.port)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def test_an_unknown_fault_or_option_is_refused(proxy: NetworkProxy) -> None:
    with pytest.raises(UsageError, match="no network fault 'storm'"):
        proxy.set_fault("storm")
    with pytest.raises(UsageError, match="does not take colour"):
        proxy.set_fault("drip", colour="red")
    assert proxy.fault.kind == "none"


def test_every_fault_can_be_switched_while_connections_are_open(
    client: socket.socket, proxy: NetworkProxy
) -> None:
    for kind in FAULTS:
        proxy.set_fault(kind)
    proxy.clear_fault()


def test_as_a_process_it_prints_its_address_and_is_switched_by_lines(echo: Echo) -> None:
    command = [sys.executable, "-m", "runbook_lib.sandbox.proxy", f"127.0.0.1:{echo.port}", "--fault", "cut", "after_bytes=2"]  # fmt: skip
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdin is not None
        host, _, port = process.stdout.readline().strip().partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connected:
            connected.sendall(b"12345")
            assert _hear(connected, 5) == b"12"
        process.stdin.write("none\n\n")
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_connection_that_is_half_open_is_lost_for_both_sides_and_new_ones_work(
    client: socket.socket, proxy: NetworkProxy, echo: Echo
) -> None:
    proxy.set_fault("half_open")
    client.sendall(b"lost")
    assert _is_silent(client)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as another:
        assert _say(another, b"arrives") == b"arrives"
        client.close()
        # The server is not told of its end, so it keeps that one open.
        assert _say(another, b"again") == b"again"
        assert proxy.connections() == 2
    assert b"lost" not in echo.received
    proxy.clear_fault()


def test_connections_are_lost_once_they_have_lived_for_long_enough(
    client: socket.socket, proxy: NetworkProxy
) -> None:
    proxy.set_fault("half_open", after_seconds=SHORT_SECONDS)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as another:
        time.sleep(SHORT_SECONDS * 1.5)
        another.sendall(b"too late")
        assert _is_silent(another)
    client.sendall(b"too late as well")
    assert _is_silent(client)


def test_a_link_that_flaps_resets_what_is_open_and_works_in_between(
    client: socket.socket, proxy: NetworkProxy
) -> None:
    proxy.set_fault("flap", down_seconds=0.2, period_seconds=0.6)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as another:
                assert _say(another, b"works") == b"works"
                return
        except OSError:
            continue
    pytest.fail("It never worked again.")


@needs_openssl
def test_a_front_speaks_tls_before_a_server_that_does_not(echo: Echo, tmp_path: Path) -> None:
    certificate = site_certificate(tmp_path, ends=timedelta(hours=1))
    context = ssl.create_default_context(cafile=certificate.authority)
    with (
        NetworkProxy("127.0.0.1", echo.port, secured_by=certificate.context()) as front,
        socket.create_connection(("127.0.0.1", front.port), timeout=10) as link,
        context.wrap_socket(link, server_hostname="localhost") as secured,
    ):
        assert _say(secured, b"in secret") == b"in secret"


@needs_openssl
def test_a_certificate_that_has_ended_is_refused_for_that_alone(echo: Echo, tmp_path: Path) -> None:
    certificate = site_certificate(tmp_path, ends=-timedelta(hours=1))
    context = ssl.create_default_context(cafile=certificate.authority)
    with (
        NetworkProxy("127.0.0.1", echo.port, secured_by=certificate.context()) as front,
        socket.create_connection(("127.0.0.1", front.port), timeout=10) as link,
        pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"),
    ):
        context.wrap_socket(link, server_hostname="localhost")
