"""HTTP exchanges on `requests` that end by their deadline, whatever the other side does.

A time-out of `requests` counts per read: a body dripped at a byte every 0.4 s ran for 12 s under
`timeout=2`. Here the sockets of a call are known to the watchdog from their first moment (before
connecting, before TLS), and it shuts them when the call's deadline passes. The name is resolved in a
thread of its own, because a resolver cannot be interrupted at all.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.exceptions
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from runbook_lib.deadlines import WATCHDOG, Deadline, Guard, shut_descriptor

READ_PIECE_BYTES = 65_536
# Of a time-out: new connections may work all the same, where something in between forgot the old ones.
REUSED_CONNECTION = "on a connection that had served before"


class ExchangeFailed(Exception):
    """No whole answer came. `sent` says whether any byte of the request may have left.

    `reason` is one of `timeout`, `unreachable` (name, route, refused), `broken` (the connection ended
    in the middle), `certificate`, `address` (not an address) or `too_large`.
    """

    def __init__(self, reason: str, message: str, *, sent: bool, exception_class: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.sent = sent
        self.exception_class = exception_class


@dataclass(frozen=True)
class Answer:
    """A whole answer. Header names are as `requests` compares them: without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class _Call:
    """One exchange under way: its deadline, and its sockets, duplicated so that they stay ours."""

    deadline: Deadline
    guard: Guard
    sent: bool = False
    reused_connection: bool = False
    _copies: list[int] = field(default_factory=list)
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, connected: socket.socket) -> None:
        copy = os.dup(connected.fileno())
        with self._lock:
            self._copies.append(copy)
        self.guard.shut_at_deadline(lambda: self._shut(copy))

    def _shut(self, copy: int) -> None:
        # Under the lock, because a number that was closed in between may be somebody else's socket.
        with self._lock:
            if not self._closed:
                shut_descriptor(copy)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for copy in self._copies:
                os.close(copy)


_CALL: ContextVar[_Call] = ContextVar("call")


class _Watched:
    """What both kinds of connection add: a socket is watched before anything can block on it."""

    sock: Any
    _requesting = False

    def _new_conn(self) -> socket.socket:
        call = _CALL.get()
        host, port = self._dns_host, self.port  # type: ignore[attr-defined]
        try:
            addresses = _resolve(host, port, call.deadline)
        except socket.gaierror as error:
            raise urllib3.exceptions.NameResolutionError(host, self, error) from error  # type: ignore[arg-type]
        refusal: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in addresses:
            try:
                return self._connect_to(call, family, kind, protocol, address)
            except OSError as error:
                refusal = error
        if isinstance(refusal, TimeoutError) or call.deadline.passed():
            raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from refusal
        raise urllib3.exceptions.NewConnectionError(self, str(refusal)) from refusal  # type: ignore[arg-type]

    def _connect_to(
        self, call: _Call, family: int, kind: int, protocol: int, address: Any
    ) -> socket.socket:
        found = socket.socket(family, kind, protocol)
        try:
            for option in self.socket_options or ():  # type: ignore[attr-defined]
                found.setsockopt(*option)
            call.watch(found)
            found.settimeout(max(0.001, call.deadline.remaining_seconds()))
            found.connect(address)
        except BaseException:
            found.close()
            raise
        return found

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        call = _CALL.get()
        if self.sock is not None:
            call.watch(self.sock)
            call.reused_connection = bool(getattr(self, "_has_served", False))
        self._has_served = True
        self._requesting = True
        super().putrequest(*arguments, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        # What is sent to a proxy to open a tunnel is not the request.
        if self._requesting:
            _CALL.get().sent = True
        super().send(data)  # type: ignore[misc]

    def close(self) -> None:
        self._requesting = self._has_served = False
        super().close()  # type: ignore[misc]


class _Connection(_Watched, urllib3.connection.HTTPConnection):
    pass


class _SecureConnection(_Watched, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class _WatchedAdapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class Transport:
    """A pool of connections for many threads; one `exchange` is one request and its whole answer.

    Redirects are never followed and cookies never kept. Proxies and certificate bundles come from the
    environment as `requests` reads them, except that a loopback address never goes through a proxy.
    """

    def __init__(
        self, *, connections: int = 10, maximum_answer_bytes: int = 16 * 1024 * 1024
    ) -> None:
        self._maximum_answer_bytes = maximum_answer_bytes
        # The session prepares requests and reads the environment; sending through it would read the
        # whole body of a redirect and keep cookies.
        self._session = requests.Session()
        self._adapter = _WatchedAdapter(pool_connections=4, pool_maxsize=connections)

    def exchange(
        self,
        method: str,
        url: str,
        *,
        deadline: Deadline,
        headers: Mapping[str, str],
        body: bytes | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """Sends one request and reads its whole answer before `deadline`.

        A `repeatable` request that met a connection which the server had closed while it was idle is
        sent again once. Raises `ExchangeFailed`.
        """
        if deadline.passed():
            raise ExchangeFailed(
                "timeout",
                "its deadline had passed before it began",
                sent=False,
                exception_class="TimeoutError",
            )
        with _watched_call(deadline) as call:
            try:
                try:
                    return self._exchange(call, method, url, headers, body)
                except requests.exceptions.ConnectionError:
                    if not (repeatable and call.reused_connection) or deadline.passed():
                        raise
                    call.reused_connection = call.sent = False
                    return self._exchange(call, method, url, headers, body)
            except (
                requests.exceptions.RequestException,
                urllib3.exceptions.HTTPError,
                OSError,
                ValueError,
            ) as error:
                explained = _explain(error, call)
                if explained.reason == "timeout" and call.reused_connection:
                    # Where one that had served before leads nowhere, the other idle ones may as well.
                    self._adapter.poolmanager.clear()
                raise explained from None

    def _exchange(
        self, call: _Call, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        # The headers carry the login; an `auth` that adds nothing keeps ~/.netrc from replacing it.
        request = self._session.prepare_request(
            requests.Request(
                method, url, headers=dict(headers), data=body, auth=lambda prepared: prepared
            )
        )
        settings = self._session.merge_environment_settings(
            request.url or url, {}, True, None, None
        )
        if _is_loopback(url):
            settings["proxies"] = {}
        response = self._adapter.send(
            request,
            stream=True,
            timeout=max(0.001, call.deadline.remaining_seconds()),
            verify=True if settings["verify"] is None else settings["verify"],
            cert=settings["cert"],
            proxies=settings["proxies"],
        )
        try:
            pieces, size = [], 0
            for piece in response.raw.stream(READ_PIECE_BYTES, decode_content=True):
                size += len(piece)
                if size > self._maximum_answer_bytes:
                    raise _too_large(self._maximum_answer_bytes)
                pieces.append(piece)
            if call.guard.expired:
                raise TimeoutError
            return Answer(response.status_code, response.headers, b"".join(pieces))
        except BaseException:
            response.raw.close()
            raise
        finally:
            response.raw.release_conn()

    def close(self) -> None:
        self._adapter.close()


@contextmanager
def _watched_call(deadline: Deadline) -> Iterator[_Call]:
    with WATCHDOG.guard(deadline) as guard:
        call = _Call(deadline, guard)
        token = _CALL.set(call)
        try:
            yield call
        finally:
            _CALL.reset(token)
            call.close()


def _resolve(host: str, port: int, deadline: Deadline) -> list[Any]:
    found: list[Any] = []

    def resolve() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=resolve, name="resolve-name", daemon=True)
    thread.start()
    thread.join(deadline.remaining_seconds())
    if not found:
        raise TimeoutError(f"the name {host} was not resolved in time")
    if isinstance(found[0], UnicodeError):
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is not a host name")
    if isinstance(found[0], OSError):
        raise found[0]
    addresses: list[Any] = found[0]
    return addresses


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


class _TooLarge(ValueError):
    pass


def _too_large(maximum_bytes: int) -> _TooLarge:
    return _TooLarge(f"the answer is longer than {maximum_bytes // (1024 * 1024)} MiB")


def _explain(error: Exception, call: _Call) -> ExchangeFailed:
    reason, message = _reason(error, call)
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) is not None:
        cause = below
    return ExchangeFailed(
        reason,
        message,
        sent=call.sent,
        exception_class=f"{type(error).__name__}/{type(cause).__name__}",
    )


def _reason(error: Exception, call: _Call) -> tuple[str, str]:
    texts = " ".join(str(each) for each in _chain(error))
    kinds = tuple(type(each) for each in _chain(error))

    def among(*wanted: type) -> bool:
        return any(issubclass(kind, wanted) for kind in kinds)

    if (
        call.guard.expired
        or call.deadline.passed()
        or among(requests.exceptions.Timeout, TimeoutError)
    ):
        where = f", {REUSED_CONNECTION}" if call.reused_connection else ""
        return "timeout", f"there was no whole answer within the deadline{where}"
    if among(_TooLarge):
        return "too_large", str(error)
    if among(
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
    ):
        return "address", "this is not an address that can be called"
    if "CERTIFICATE_VERIFY_FAILED" in texts or among(ssl.CertificateError):
        return "certificate", f"its certificate is not valid: {_innermost(error)}"
    if among(urllib3.exceptions.NameResolutionError, socket.gaierror):
        return "unreachable", "its host name does not resolve"
    if not call.sent:
        return "unreachable", f"no connection: {_innermost(error)}"
    return "broken", f"the connection broke before the whole answer was there: {_innermost(error)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    # requests puts the urllib3 error into its arguments, and urllib3 its cause into `reason`.
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        nearby = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        waiting.extend(found for found in nearby if isinstance(found, BaseException))


def _innermost(error: BaseException) -> str:
    below = list(_chain(error))
    for each in below:
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    return type(below[-1]).__name__
