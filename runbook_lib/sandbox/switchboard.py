"""The sandbox's own endpoints below /_sandbox: faults, the journal, posts, users and keys.

Only for programs on this machine: a page in a browser cannot call them, since the host must be a
loopback address and bodies must be JSON.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict
from typing import Any

from runbook_lib.sandbox.faults import KINDS, FaultRefused, Faults, read_fault
from runbook_lib.sandbox.journal import Journal
from runbook_lib.sandbox.messages import JSON_TYPE, Request, Response
from runbook_lib.sandbox.storage import Storage
from runbook_lib.sandbox.wordpress_api import WordPress
from runbook_lib.sandbox.wordpress_posts import moment
from runbook_lib.sandbox.wordpress_terms import CATEGORIES, TAGS

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
ROLES = ("administrator", "editor", "author", "contributor", "subscriber")


class Switchboard:
    """Answers requests below /_sandbox; GET looks, POST makes, DELETE removes."""

    def __init__(
        self, storage: Storage, faults: Faults, journal: Journal, wordpress: WordPress
    ) -> None:
        self._storage = storage
        self._faults = faults
        self._journal = journal
        self._wordpress = wordpress
        self._answers = {
            ("GET", "health"): self._health,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "fault-kinds"): self._fault_kinds,
            ("GET", "journal"): self._read_journal,
            ("DELETE", "journal"): self._clear_journal,
            ("GET", "posts"): self._posts,
            ("DELETE", "posts"): self._clear_posts,
            ("POST", "categories"): self._ensure_categories,
            ("POST", "users"): self._make_user,
            ("POST", "api-keys"): self._make_key,
            ("DELETE", "api-keys"): self._remove_key,
        }

    def answer(self, request: Request) -> Response:
        host = request.headers.get("host", "").rsplit(":", 1)[0]
        if host not in LOOPBACK_HOSTS:
            return _problem(
                403, f"The switchboard answers only at a loopback address, not at {host!r}."
            )
        name = request.path.removeprefix("/_sandbox").strip("/")
        found = self._answers.get((request.method, name))
        if found is None:
            known = ", ".join(f"{method} /_sandbox/{each}" for method, each in self._answers)
            return _problem(
                404, f"There is no {request.method} /_sandbox/{name}. There are: {known}."
            )
        body: Any = {}
        if request.method == "POST":
            if request.content_type != JSON_TYPE:
                return _problem(415, "The body must be application/json.")
            try:
                body = request.json()
            except ValueError:
                return _problem(400, "The body is not JSON.")
            if not isinstance(body, dict):
                return _problem(400, "The body is not a JSON object.")
        try:
            return Response.of_json(200, found(body or request.query))
        except FaultRefused as error:
            return _problem(400, str(error))

    def _health(self, given: dict[str, Any]) -> Any:
        return {"status": "ok", "faults": len(list(self._faults))}

    def _list_faults(self, given: dict[str, Any]) -> Any:
        return [asdict(fault) for fault in self._faults]

    def _add_fault(self, given: dict[str, Any]) -> Any:
        return asdict(self._faults.add(read_fault(given, time.time())))

    def _clear_faults(self, given: dict[str, Any]) -> Any:
        fault_id = given.get("fault_id")
        if fault_id is not None and not str(fault_id).isdigit():
            raise FaultRefused(f"fault_id is a number, not {fault_id!r}.")
        number = None if fault_id is None else int(fault_id)
        return {"cleared": self._faults.clear(number, given.get("provider"))}

    def _fault_kinds(self, given: dict[str, Any]) -> Any:
        return [
            {
                "provider": provider,
                "kind": name,
                "group": kind.group,
                "meaning": kind.meaning,
                "options": kind.options,
            }
            for (provider, name), kind in KINDS.items()
        ]

    def _read_journal(self, given: dict[str, Any]) -> Any:
        return self._journal.read(given.get("provider"), int(given.get("after_id", 0)))

    def _clear_journal(self, given: dict[str, Any]) -> Any:
        self._journal.clear()
        return {}

    def _posts(self, given: dict[str, Any]) -> Any:
        rows = self._storage.rows("list_all_posts", after_id=int(given.get("after_id", 0)))
        return [
            {
                "post_id": row["post_id"],
                "status": row["status"],
                "slug": row["slug"],
                "title": row["title"],
                "content": row["content"],
                "excerpt": row["excerpt"],
                "author": row["author"],
                "categories": json.loads(row["category_names"]),
                "tags": json.loads(row["tag_names"]),
                "date": moment(row["date_at"]),
                "modified": moment(row["modified_at"]),
            }
            for row in rows
        ]

    def _clear_posts(self, given: dict[str, Any]) -> Any:
        with self._storage.transaction():
            for name in ("clear_late_writes", "clear_post_terms", "clear_posts", "clear_tags"):
                self._storage.execute(name)
        return {}

    def _ensure_categories(self, given: dict[str, Any]) -> Any:
        taxonomy = TAGS if given.get("taxonomy") == "post_tag" else CATEGORIES
        return {
            str(name): self._wordpress.terms.ensure(taxonomy, str(name))
            for name in given.get("names", ())
        }

    def _make_user(self, given: dict[str, Any]) -> Any:
        login, role = given.get("login"), given.get("role", "author")
        if not isinstance(login, str) or not login or role not in ROLES:
            raise FaultRefused(f"A user needs a login and a role of {', '.join(ROLES)}.")
        user, password = self._wordpress.users.make(login, str(role))
        return {
            "user_id": user.user_id,
            "login": user.login,
            "role": user.role,
            "app_password": password,
        }

    def _make_key(self, given: dict[str, Any]) -> Any:
        key = str(given.get("api_key") or f"sk-sandbox-{secrets.token_urlsafe(24)}")
        self._storage.execute("add_api_key", api_key=key, now=time.time())
        return {"api_key": key}

    def _remove_key(self, given: dict[str, Any]) -> Any:
        return {"removed": self._storage.count("remove_api_key", api_key=given.get("api_key", ""))}


def _problem(status: int, message: str) -> Response:
    return Response.of_json(status, {"error": message})
