"""An HTTP/1.1 server on asyncio with keep-alive, whose responses may drip, break or stay away.

One thread serves everything, so that a hundred slow answers cost no more than a hundred timers.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus

from runbook_lib.sandbox.messages import Delivery, Request, Response

LONGEST_HEAD_BYTES = 64 * 1024
LONGEST_BODY_BYTES = 64 * 1024 * 1024
IDLE_SECONDS = 75  # as long as nginx keeps an idle connection

Application = Callable[[Request], Awaitable[Response]]


class BadRequest(Exception):
    """What came is not an HTTP request that this server reads."""


class Server:
    """Serves one application at one address until `close`."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listens, and returns the port (chosen by the system for port 0)."""
        self._server = await asyncio.start_server(
            self._serve_connection, host, port, limit=LONGEST_HEAD_BYTES, backlog=1024
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._serve_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
            pass  # the other side went away, or we are closing
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Serves one request; whether the connection stays open for another."""
        try:
            request = await read_request(reader, writer)
        except (BadRequest, asyncio.LimitOverrunError, ValueError) as error:
            writer.write(_head(Response.of_html(400, str(error)), keep=False, head_only=True))
            await writer.drain()
            return False
        if request is None:
            return False
        response = await self._application(request)
        keep = request.headers.get("connection", "").lower() != "close"
        return await _deliver(
            reader, writer, response, keep=keep, head_only=request.method == "HEAD"
        )


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    """Reads one request whole; None when the connection ended or idled out before one."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest("not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest("a header line without a colon")
        headers[name.strip().lower()] = value.strip()
    if parts[2] == "HTTP/1.0":
        headers["connection"] = "close"
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await _read_body(reader, headers)
    address = writer.get_extra_info("peername")
    return Request(parts[0], parts[1], headers, body, address[0] if address else "")


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _read_chunks(reader)
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > LONGEST_BODY_BYTES:
        raise BadRequest("a body without a usable length")
    return await reader.readexactly(int(length)) if int(length) else b""


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while length := int((await reader.readline()).split(b";")[0], 16):
        size += length
        if size > LONGEST_BODY_BYTES:
            raise BadRequest("a body that is too long")
        pieces.append(await reader.readexactly(length))
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # trailers
    return b"".join(pieces)


async def _deliver(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    response: Response,
    *,
    keep: bool,
    head_only: bool,
) -> bool:
    delivery = response.delivery
    if delivery.way == "reset":
        reset(writer)
        return False
    if delivery.way == "silence":
        await _stay_silent(reader, delivery)
        return False
    writer.write(_head(response, keep=keep, head_only=head_only))
    body = b"" if head_only else response.body
    if delivery.way == "cut":
        writer.write(body[: len(body) // 2])
        await writer.drain()
        return False
    if delivery.way == "drip":
        for byte in body:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(delivery.interval_seconds)
    else:
        writer.write(body)
    await writer.drain()
    return keep


async def _stay_silent(reader: asyncio.StreamReader, delivery: Delivery) -> None:
    try:
        async with asyncio.timeout(delivery.silence_seconds):
            while await reader.read(LONGEST_HEAD_BYTES):
                pass
    except TimeoutError:
        pass


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with a TCP reset instead of an orderly close."""
    found = writer.get_extra_info("socket")
    # It may have ended by itself in the meantime.
    if found is not None and found.fileno() >= 0:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _head(response: Response, *, keep: bool, head_only: bool) -> bytes:
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {response.status} {phrase}", f"Date: {formatdate(usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if not head_only or response.body:
        lines.append(f"Content-Length: {len(response.body)}")
    lines.append("Connection: keep-alive" if keep else "Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")
