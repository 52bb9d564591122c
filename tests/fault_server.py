"""A TCP server that misbehaves on the wire as it is told, for clients' tests."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Behaviour = Callable[["FaultServer", socket.socket], None]


@dataclass
class FaultServer:
    """Serves each connection by `behaviour` in a thread of its own until it is closed.

    `closing` ends behaviours that would wait for ever; `requests` holds the first lines
    of the requests read, `connections` counts what was accepted.
    """

    behaviour: Behaviour
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> FaultServer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.behaviour(self, connection)
            except OSError:
                pass

    def read_request(self, connection: socket.socket) -> bytes:
        """Reads one request, head and body; empty when the client has gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65_536)
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            ),
            0,
        )
        while len(body) < length:
            body += connection.recv(65_536)
        self.requests.append(head.split(b"\r\n")[0])
        return head

    def drip(self, connection: socket.socket, data: bytes) -> None:
        """A byte every twentieth of a second: each read is short, the whole takes for ever."""
        for number in range(len(data)):
            connection.sendall(data[number : number + 1])
            if self.closing.wait(0.05):
                return


def stall(server: FaultServer, connection: socket.socket) -> None:
    """Accepts and says nothing; on a TLS address the handshake never ends."""
    server.closing.wait(60)


def stall_after_request(server: FaultServer, connection: socket.socket) -> None:
    server.read_request(connection)
    server.closing.wait(60)


def reset(server: FaultServer, connection: socket.socket) -> None:
    """Reads the request and ends the connection with a reset."""
    server.read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drip_headers(server: FaultServer, connection: socket.socket) -> None:
    server.read_request(connection)
    server.drip(connection, b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 1000)


def drip_body(server: FaultServer, connection: socket.socket) -> None:
    server.read_request(connection)
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    )
    server.drip(connection, b" " * 10_000)


def drip_kept_open(server: FaultServer, connection: socket.socket) -> None:
    server.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    server.drip(connection, b" " * 10_000)


def endless(server: FaultServer, connection: socket.socket) -> None:
    """A body without end, as fast as it goes."""
    server.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while not server.closing.is_set():
        connection.sendall(b" " * 65_536)


def after_index(behaviour: Behaviour) -> Behaviour:
    """Answers the question for the REST index as WordPress does, and everything else by `behaviour`."""
    index = b'{"name": "Site", "namespaces": ["wp/v2"], "authentication": []}'

    def serve(server: FaultServer, connection: socket.socket) -> None:
        if b"GET /wp-json/?" not in connection.recv(65_536, socket.MSG_PEEK):
            behaviour(server, connection)
            return
        server.read_request(connection)
        server.requests.pop()
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(index)}\r\n\r\n"
        connection.sendall(head.encode() + index)

    return serve


def answer(text: bytes) -> Behaviour:
    """Answers each request of a connection with these bytes, and keeps the connection open."""

    def serve(server: FaultServer, connection: socket.socket) -> None:
        while server.read_request(connection):
            connection.sendall(text)

    return serve


def refused_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BlackHole:
    """An address that never completes a connection: its queue is full, so the kernel drops each SYN."""

    def __enter__(self) -> BlackHole:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)
        return self

    def __exit__(self, *_: object) -> None:
        for each in [*self._fillers, self._listener]:
            each.close()
