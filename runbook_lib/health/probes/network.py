"""The steps below any protocol: name, route, connection, certificate. Each failure in words of its own."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Generator, Sequence
from typing import Any
from urllib.parse import urlsplit

from runbook_lib.deadlines import WATCHDOG, Deadline, shut_descriptor
from runbook_lib.health.checks import Check

CONNECT_SECONDS = 5.0
HANDSHAKE_SECONDS = 5.0
CERTIFICATE_WARNING_DAYS = 14
SECONDS_A_DAY = 86_400

_NAME_ERRORS = {
    socket.EAI_NONAME: "The name {host} does not exist.",
    socket.EAI_AGAIN: "The name server of this machine gave no answer for {host}.",
    socket.EAI_FAIL: "The name server of this machine failed on {host}.",
}
_CERTIFICATE_ERRORS = {
    10: "has expired",
    9: "is not valid yet",
    18: "is self-signed",
    19: "was signed by an authority that this machine does not know",
    20: "was signed by an authority that this machine does not know, or its chain is incomplete",
    21: "comes without the certificates between it and a known authority",
    62: "belongs to another name",
}

Addresses = Sequence[tuple[Any, ...]]
Steps = Generator[Check, None, bool]


def reach_web(
    part: str, url: str, variable: str, patience_seconds: float = CONNECT_SECONDS
) -> Steps:
    """Name, connection and certificate of a web address; True when a request can be sent."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    if proxy := _proxy_for(url):
        return (yield from _reach_proxy(part, host, proxy))
    addresses = yield from resolve(part, host, port, variable)
    if not addresses:
        return False
    link = yield from connect(part, addresses, host, port, variable, patience_seconds)
    if link is None:
        return False
    with link:
        if secure:
            return (yield from _check_certificate(part, link, host))
    if not is_this_machine(host):
        yield Check(
            f"{part}.certificate",
            "warning",
            f"{variable} starts with http://, so the key or password travels in clear text.",
            next=f"Set {variable} to the https:// address, if {host} has one.",
        )
    return True


def resolve(part: str, host: str, port: int, variable: str) -> Generator[Check, None, Addresses]:
    """The addresses of a host name; empty when it has none."""
    name = f"{part}.name"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        code = error.errno if isinstance(error, socket.gaierror) else None
        words = _NAME_ERRORS.get(code or 0, "The name {host} could not be resolved.").format(
            host=host
        )
        own_fault = code == socket.EAI_AGAIN
        yield Check(
            name,
            "critical",
            f"{words} ({error})"
            if not isinstance(error, UnicodeError)
            else f"{host} is not a host name.",
            source=f"look-up of {host}",
            next="Check this machine's network and /etc/resolv.conf; other names fail as well."
            if own_fault
            else f"Check the spelling in {variable}. If it is right, the name was removed, or this "
            "machine's name server does not know it.",
            details={"reason": "name_server" if own_fault else "unknown_name"},
        )
        return ()
    if _is_number(host):
        return found
    texts = sorted({str(each[4][0]) for each in found})
    yield Check(
        name,
        "ok",
        f"{host} has {_addresses_in_words(texts)}.",
        value=texts,
        source=f"look-up of {host}",
    )
    return found


def connect(
    part: str,
    addresses: Addresses,
    host: str,
    port: int,
    variable: str,
    patience_seconds: float = CONNECT_SECONDS,
) -> Generator[Check, None, socket.socket | None]:
    """An open TCP connection to the first address that takes it, or None."""
    name, source = f"{part}.connection", f"TCP connection to {host}:{port}"
    failures: list[OSError] = []
    started = time.monotonic()
    for family, kind, protocol, _, address in addresses:
        try:
            link = socket.socket(family, kind, protocol)
        except OSError as error:
            failures.append(error)
            continue
        link.settimeout(patience_seconds / min(2, len(addresses)))
        try:
            link.connect(address)
        except OSError as error:
            link.close()
            failures.append(error)
            continue
        milliseconds = round((time.monotonic() - started) * 1000, 1)
        yield Check(
            name,
            "ok",
            f"Port {port} answers in {milliseconds:g} ms.",
            milliseconds,
            "ms",
            source=source,
        )
        return link
    words, advice = _connect_failure(failures, addresses, host, port, variable)
    details = {"reason": _reason(failures)}
    yield Check(name, "critical", words, source=source, next=advice, details=details)
    return None


def _reason(failures: Sequence[OSError]) -> str:
    """refused, reset, silent or no_route: what connecting met, for whoever goes on from it."""
    if any(isinstance(error, ConnectionRefusedError) for error in failures):
        return "refused"
    if any(isinstance(error, ConnectionResetError) for error in failures):
        return "reset"
    return "silent" if any(isinstance(error, TimeoutError) for error in failures) else "no_route"


def _connect_failure(
    failures: Sequence[OSError], addresses: Addresses, host: str, port: int, variable: str
) -> tuple[str, str]:
    if any(isinstance(error, ConnectionRefusedError) for error in failures):
        return (
            f"{host} refuses connections on port {port}: the machine is up, nothing listens there.",
            f"Start the service, or correct the port in {variable}.",
        )
    if all(each[0] == socket.AF_INET6 for each in addresses):
        return (
            f"{host} has IPv6 addresses only, and this machine cannot reach them ({failures[-1]}).",
            "Use an address with IPv4. For Supabase that is the pooler's (aws-…pooler.supabase.com), "
            "or the project's IPv4 add-on.",
        )
    if any(isinstance(error, TimeoutError) for error in failures):
        return (
            f"{host} gives no answer on port {port} in time: neither yes nor no.",
            "A firewall or an allow list drops the packets, or the machine is down. Check both, and "
            f"the port in {variable}.",
        )
    return (
        f"No connection to {host}:{port}: {failures[-1]}.",
        "Check this machine's network and routes.",
    )


def response_time(part: str, seconds: float, slow_seconds: float | None, source: str) -> Check:
    """How long one cheap question took, there and back; None: told without a judgement."""
    slow = slow_seconds is not None and seconds > slow_seconds
    return Check(
        f"{part}.response_time",
        "warning" if slow else "ok",
        f"A cheap question was answered in {seconds:.2f} s.",
        round(seconds, 3),
        "s",
        slow_seconds,
        source,
        "that costly questions are answered as fast",
        "Ask again; if it stays, see the provider's status page." if slow else None,
    )


def _check_certificate(part: str, link: socket.socket, host: str) -> Steps:
    name, source = f"{part}.certificate", f"TLS handshake with {host}"
    context = ssl.create_default_context(cafile=_certificate_bundle())
    link.settimeout(HANDSHAKE_SECONDS)
    shut = link.fileno()
    with WATCHDOG.guard(Deadline.after(HANDSHAKE_SECONDS), lambda: shut_descriptor(shut)) as guard:
        try:
            with context.wrap_socket(link, server_hostname=host) as secured:
                certificate = secured.getpeercert() or {}
        except ssl.SSLCertVerificationError as error:
            words = _CERTIFICATE_ERRORS.get(
                error.verify_code, f"is not valid: {error.verify_message}"
            )
            yield Check(
                name,
                "critical",
                f"The certificate of {host} {words}. This machine's clock says {time.strftime('%Y-%m-%d %H:%M')}.",
                source=source,
                next="Renew or correct the certificate. If this machine's clock is wrong, correct the clock. "
                "Checking is never switched off.",
                details={"reason": "certificate", "verify_code": error.verify_code},
            )
            return False
        except (OSError, ValueError) as error:
            late = guard.expired or isinstance(error, TimeoutError)
            yield Check(
                name,
                "critical",
                f"{host} does not answer the TLS handshake within {HANDSHAKE_SECONDS:g} s."
                if late
                else f"{host} does not speak TLS on this port ({error}).",
                source=source,
                next="Look at the server or the proxy in front of it."
                if late
                else "If the site has no https, the address must start with http://.",
            )
            return False
    yield _certificate_expiry(name, certificate, host, source)
    return True


def _certificate_expiry(name: str, certificate: dict[str, Any], host: str, source: str) -> Check:
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    days = int((ends - time.time()) // SECONDS_A_DAY)
    soon = days < CERTIFICATE_WARNING_DAYS
    return Check(
        name,
        "warning" if soon else "ok",
        f"The certificate of {host} is valid for {days} more days.",
        days,
        "days",
        CERTIFICATE_WARNING_DAYS,
        source,
        next="Renew the certificate." if soon else None,
    )


def _reach_proxy(part: str, host: str, proxy: str) -> Steps:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    proxy_host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    yield Check(
        f"{part}.proxy", "ok", f"Requests to {host} go through the proxy {proxy_host}:{port}."
    )
    addresses = yield from resolve(part, proxy_host, port, "HTTPS_PROXY or HTTP_PROXY")
    if not addresses:
        return False
    link = yield from connect(part, addresses, proxy_host, port, "HTTPS_PROXY or HTTP_PROXY")
    if link is not None:
        link.close()
    return link is not None


def _proxy_for(url: str) -> str | None:
    import requests.utils

    if is_this_machine(urlsplit(url).hostname or ""):
        return None
    found: str | None = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    return found


def _certificate_bundle() -> str:
    import certifi

    # The same authorities as the clients use.
    return (
        os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()
    )


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_this_machine(host: str) -> bool:
    """Whether a host name or number means the machine that asks."""
    return host in ("localhost", "::1") or host.startswith("127.")


def _addresses_in_words(texts: Sequence[str]) -> str:
    return f"the address {texts[0]}" if len(texts) == 1 else f"{len(texts)} addresses"
