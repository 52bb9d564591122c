"""A TCP proxy for what networks do: latency, refusal, reset, stall, black hole, drip, cut, one way, half open, flapping.

It forwards every connection to one address, whatever is spoken over it, and its fault can be changed
while connections are open. In a test::

    with NetworkProxy(host, port) as proxy:
        proxy.set_fault("stall")

As a process: `python -m runbook_lib.sandbox.proxy 127.0.0.1:5432 --port 15432 --fault latency …`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import ssl
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from runbook_lib.errors import ServiceNotStarted, UsageError
from runbook_lib.sandbox.server import reset

FAULTS = {
    "none": "Everything passes.",
    "latency": "Each piece of data waits for `delay_seconds`, in both directions.",
    "refuse": "New connections are refused: nobody listens. Open ones go on.",
    "reset": "Open connections are reset, new ones at once.",
    "stall": "Connections stay open and are acknowledged, but no data passes in either direction.",
    "black_hole": "As `stall`, and what is sent is swallowed: it does not arrive later either.",
    "drip": "What the server sends passes byte by byte, one each `interval_seconds`.",
    "cut": "A connection ends after `after_bytes` from the server.",
    "one_way": "What the client sends arrives, what the server sends does not.",
    "half_open": "Connections that are open are lost and nobody is told: nothing passes, not even their end; new ones "
    "work, for `after_seconds` where that is given.",
    "flap": "In the first `down_seconds` of each `period_seconds` a `share` of connections is reset, new ones too.",
}
PIECE_BYTES = 65_536
CALL_SECONDS = 10
LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class NetworkFault:
    """What the network does at the moment."""

    kind: str = "none"
    delay_seconds: float = 0.5
    interval_seconds: float = 0.2
    after_bytes: int = 100
    after_seconds: float = 0
    down_seconds: float = 2
    period_seconds: float = 6
    share: float = 1.0

    def is_down(self) -> bool:
        """Whether a link that flaps is down at the moment: all of a machine are so at the same time."""
        return self.kind == "flap" and time.monotonic() % self.period_seconds < self.down_seconds

    def strikes(self) -> bool:
        return random.random() < self.share


class _Cut(Exception):
    """As many bytes as were allowed have passed, or there is no end of one direction alone."""


@dataclass(eq=False)
class _Link:
    """One connection of a client and the one to the server that belongs to it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    opened_at: float = field(default_factory=time.monotonic)
    lost: bool = False

    def reset(self) -> None:
        reset(self.client)
        reset(self.server)


class NetworkProxy:
    """Forwards from a loopback port of its own to `host`:`port`, in a thread of its own.

    With `secured_by` it speaks TLS to clients, as a front before a server that does not.
    """

    def __init__(
        self, host: str, port: int, *, listen_port: int = 0, secured_by: ssl.SSLContext | None = None
    ) -> None:  # fmt: skip
        self._target = (host, port)
        self._secured_by = secured_by
        self.port = listen_port
        self._fault = NetworkFault()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="network-proxy", daemon=True)

    def __enter__(self) -> NetworkProxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def fault(self) -> NetworkFault:
        return self._fault

    def start(self) -> NetworkProxy:
        """Listens; `port` is the port. Raises `ServiceNotStarted`."""
        self._thread.start()
        try:
            self._call(self._listen())
        except OSError as error:
            raise ServiceNotStarted(
                f"The network proxy cannot listen at port {self.port}: {error}."
            ) from error
        return self

    def stop(self) -> None:
        """Ends every connection."""
        if self._thread.is_alive():
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CALL_SECONDS)

    def set_fault(self, kind: str, **options: Any) -> None:
        """Changes what the network does, for open connections as well. Raises `UsageError`."""
        if kind not in FAULTS:
            raise UsageError(f"There is no network fault {kind!r}. Known: {', '.join(FAULTS)}.")
        try:
            fault = replace(NetworkFault(kind), **options)
        except TypeError:
            raise UsageError(
                f"A network fault does not take {', '.join(sorted(options))}."
            ) from None
        self._call(self._switch(fault))

    def clear_fault(self) -> None:
        """What was stalled goes on; what was swallowed is gone."""
        self.set_fault("none")

    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    async def _listen(self) -> None:
        self._changed = asyncio.Event()
        self._listener = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, backlog=1024, ssl=self._secured_by
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _switch(self, fault: NetworkFault) -> None:
        self._fault = fault
        self._changed.set()
        self._changed = asyncio.Event()
        if fault.kind == "refuse" and self._listener is not None:
            self._listener.close()
            self._listener = None
        elif fault.kind != "refuse" and self._listener is None:
            await self._listen()
        for link in list(self._links):
            # What was lost never comes back: whoever still waits for it is told at last.
            if fault.kind == "reset" or (link.lost and fault.kind != "half_open"):
                link.reset()
            link.lost = fault.kind == "half_open" and not fault.after_seconds
        if fault.kind == "flap":
            self._keep(asyncio.create_task(self._flap(fault)))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flap(self, fault: NetworkFault) -> None:
        """Resets open connections each time the link goes down, until the fault is another one."""
        was_down = False
        while self._fault is fault:
            is_down = fault.is_down()
            if is_down and not was_down:
                for link in [each for each in self._links if fault.strikes()]:
                    link.reset()
            was_down = is_down
            await asyncio.sleep(LOOK_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link: _Link | None = None
        try:
            if self._fault.kind == "reset" or (self._fault.is_down() and self._fault.strikes()):
                reset(writer)
                return
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            link = _Link(writer, server_writer)
            self._links.add(link)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, server_writer, to_client=False))
                group.create_task(self._pump(link, server_reader, writer, to_client=True))
        except ExceptionGroup as errors:
            if errors.subgroup(_Cut) is None:
                reset(
                    writer
                )  # the other side is gone; what was cut ends orderly, so that it arrives
        except (OSError, asyncio.CancelledError):
            reset(writer)
        finally:
            self._tasks.discard(task)
            if link is not None:
                self._links.discard(link)
                link.server.close()
            writer.close()

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_client: bool
    ) -> None:  # fmt: skip
        passed = 0
        while piece := await reader.read(PIECE_BYTES):
            if self._is_lost(link):
                continue
            piece = await self._delay(piece, to_client=to_client)
            fault = self._fault
            if fault.kind == "cut" and to_client and passed + len(piece) >= fault.after_bytes:
                writer.write(piece[: max(0, fault.after_bytes - passed)])
                await writer.drain()
                raise _Cut
            if fault.kind == "drip" and to_client:
                await self._drip(piece, writer)
            else:
                writer.write(piece)
                await writer.drain()
            passed += len(piece)
        if self._is_lost(link):
            return
        if not writer.can_write_eof():
            raise _Cut  # TLS has no end of one direction
        with contextlib.suppress(OSError):
            writer.write_eof()

    def _is_lost(self, link: _Link) -> bool:
        after_seconds = self._fault.after_seconds
        if self._fault.kind == "half_open" and after_seconds:
            link.lost |= time.monotonic() - link.opened_at >= after_seconds
        return link.lost

    async def _delay(self, piece: bytes, *, to_client: bool) -> bytes:
        """Holds a piece for as long as the fault says; nothing is left of one that was swallowed."""
        if self._fault.kind == "latency":
            await asyncio.sleep(self._fault.delay_seconds)
        while self._fault.kind in ("stall", "black_hole") or (
            self._fault.kind == "one_way" and to_client
        ):
            if self._fault.kind != "stall":
                return b""
            await self._changed.wait()
        return piece

    async def _drip(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        for at in range(len(piece)):
            if self._fault.kind != "drip":
                writer.write(piece[at:])
                break
            writer.write(piece[at : at + 1])
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._fault.interval_seconds)


def main() -> None:
    """Runs a proxy until Ctrl-C; a line on standard input such as `drip interval_seconds=0.1` switches it."""
    parser = argparse.ArgumentParser(
        prog="python -m runbook_lib.sandbox.proxy", description=__doc__
    )
    parser.add_argument("target", help="host:port")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fault", nargs="+", default=["none"], metavar="KIND [option=value]")
    arguments = parser.parse_args()
    host, _, port = arguments.target.rpartition(":")
    with NetworkProxy(host, int(port), listen_port=arguments.port) as proxy:
        _switch(proxy, arguments.fault)
        print(f"127.0.0.1:{proxy.port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while line := input():
                _switch(proxy, line.split())


def _switch(proxy: NetworkProxy, words: list[str]) -> None:
    kind, *given = words
    options: dict[str, float] = {}
    for name, _, value in (each.partition("=") for each in given):
        options[name] = int(value) if value.isdigit() else float(value)
    try:
        proxy.set_fault(kind, **options)
    except UsageError as error:
        print(error, flush=True)


if __name__ == "__main__":
    main()
