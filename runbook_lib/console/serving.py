"""Serves the console until it is asked to stop, and says where it is."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit

from runbook_lib.console.application import create
from runbook_lib.credentials.console_tokens import console_address, keep_console_address
from runbook_lib.errors import ConfigurationError, CouldNotBeDone
from runbook_lib.settings import Settings

STOP_SECONDS = 5
# Connections at the same time; what is beyond gets 503 at once instead of a slow answer.
MOST_CONNECTIONS = 200


def serve(settings: Settings, said: Callable[[str], None]) -> None:
    """Serves until SIGTERM or Ctrl-C; `said` gets the address once it answers.

    Raises `CouldNotBeDone` when the address is taken, `ConfigurationError` when it is none.
    """
    import uvicorn

    application = create(settings)
    with closing(listen(settings.runbook_console_address)) as listening:
        host, port = listening.getsockname()[:2]
        settings = settings.model_copy(
            update={
                "runbook_console_address": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            }
        )
        keep_console_address(settings)
        said(console_address(settings))
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                access_log=False,
                log_level="warning",
                server_header=False,
                # Whoever forwards requests could name any client: each is who connects.
                proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_keep_alive=10,
                timeout_graceful_shutdown=STOP_SECONDS,
                h11_max_incomplete_event_size=32 * 1024,
                ws="none",
            )
        )
        server.run(sockets=[listening])


def listen(address: str) -> socket.socket:
    """A socket that listens on `host:port`. Raises `CouldNotBeDone` and `ConfigurationError`."""
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise ConfigurationError(
            f"RUNBOOK_CONSOLE_ADDRESS is {address!r}; expected host:port, such as 127.0.0.1:8080."
        )
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=256
        )
    except OSError as error:
        raise CouldNotBeDone(
            f"The console cannot listen on {address}: {error.strerror or error}. Another program may "
            "be there; set RUNBOOK_CONSOLE_ADDRESS to a free port."
        ) from None
