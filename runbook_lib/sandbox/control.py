"""A client of the switchboard: turns faults on and off and reads what happened."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode, urlsplit

from runbook_lib.errors import CouldNotBeDone, UsageError

TIMEOUT_SECONDS = 10


class SandboxControl:
    """Controls the sandbox at an address. Raises `UsageError` for what it refuses, `CouldNotBeDone` when
    it does not answer."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80

    def set_fault(self, provider: str, kind: str, **options: Any) -> int:
        """Turns a fault on, for requests that match all of `method`, `path`, `model` and `topic` (texts),
        for `count` requests, with `probability`, for `duration_seconds`, only while more than `above` are
        under way; the rest are the kind's own options (see `kinds`). Returns the fault's id."""
        found = self._call("POST", "faults", body={"provider": provider, "kind": kind, **options})
        return int(found["fault_id"])

    def clear_faults(self, fault_id: int | None = None, provider: str | None = None) -> int:
        """Turns off one fault, those of a provider, or all; how many there were."""
        return int(self._call("DELETE", "faults", fault_id=fault_id, provider=provider)["cleared"])

    def faults(self) -> list[dict[str, Any]]:
        """The faults that are on, with how often each struck."""
        return list(self._call("GET", "faults"))

    def kinds(self) -> list[dict[str, Any]]:
        """Every kind of fault: provider, kind, group, meaning, options with their defaults."""
        return list(self._call("GET", "fault-kinds"))

    def journal(self, provider: str | None = None, after_id: int = 0) -> list[dict[str, Any]]:
        """Requests, oldest first: request_id, started_at, ended_at (None: under way), provider, method,
        path, query, user, status (None: no answer was sent), fault, model, topic, slug, post_id,
        idempotency_key, body_bytes, body_sha256."""
        return list(self._call("GET", "journal", provider=provider, after_id=after_id))

    def clear_journal(self) -> None:
        self._call("DELETE", "journal")

    def posts(self, after_id: int = 0) -> list[dict[str, Any]]:
        """Posts of every status: post_id, status, slug, title, content, excerpt, author, categories and
        tags (names), date, modified."""
        return list(self._call("GET", "posts", after_id=after_id))

    def clear_posts(self) -> None:
        """Removes every post and tag, and forgets the work that was still to be done."""
        self._call("DELETE", "posts")

    def ensure_categories(self, names: Iterable[str]) -> dict[str, int]:
        """Makes the categories that are absent; the ids by name."""
        return dict(self._call("POST", "categories", body={"names": list(names)}))

    def make_user(self, login: str, role: str = "author") -> str:
        """Makes a user, or gives an existing one this role; a new application password of it."""
        return str(self._call("POST", "users", body={"login": login, "role": role})["app_password"])

    def make_api_key(self, api_key: str | None = None) -> str:
        """Accepts one more API key."""
        return str(self._call("POST", "api-keys", body={"api_key": api_key})["api_key"])

    def remove_api_key(self, api_key: str) -> None:
        """Accepts an API key no longer."""
        self._call("DELETE", "api-keys", api_key=api_key)

    def _call(self, method: str, name: str, body: Any = None, **query: Any) -> Any:
        given = {key: value for key, value in query.items() if value is not None}
        target = f"/_sandbox/{name}" + (f"?{urlencode(given)}" if given else "")
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
            found = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CouldNotBeDone(
                f"The sandbox at {self._host}:{self._port} does not answer: {error}."
            ) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise UsageError(f"The sandbox refused {method} {name}: {found.get('error')}")
        return found
