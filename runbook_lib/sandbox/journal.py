"""The journal: every request to a stand-in, when it came, what it was about and what became of it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from runbook_lib.sandbox.messages import Request
from runbook_lib.sandbox.storage import Row, Storage

KEPT_REQUESTS = 200_000
FORGET_EVERY = 10_000


@dataclass
class Entry:
    """One request under way; its handler fills in what it learns."""

    request_id: int
    user: str | None = None
    fault: str | None = None
    model: str | None = None
    topic: str | None = None
    slug: str | None = None
    post_id: int | None = None


class Journal:
    """Written when a request comes and again when it ends, so that one without an answer shows."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def begin(self, provider: str, request: Request) -> Entry:
        request_id = self._storage.execute(
            "begin_request",
            now=time.time(),
            provider=provider,
            method=request.method,
            path=request.path,
            query=request.target.partition("?")[2],
            idempotency_key=request.headers.get("idempotency-key"),
            body_bytes=len(request.body),
            body_sha256=hashlib.sha256(request.body).hexdigest(),
        )
        if request_id % FORGET_EVERY == 0:
            self._storage.execute("forget_requests", until_id=request_id - KEPT_REQUESTS)
        return Entry(request_id)

    def end(self, entry: Entry, status: int | None) -> None:
        self._storage.execute(
            "end_request",
            request_id=entry.request_id,
            now=time.time(),
            status=status,
            fault=entry.fault,
            user=entry.user,
            model=entry.model,
            topic=entry.topic,
            slug=entry.slug,
            post_id=entry.post_id,
        )

    def read(
        self, provider: str | None = None, after_id: int = 0, limit: int = 100_000
    ) -> list[Row]:
        return self._storage.rows(
            "list_requests", provider=provider, after_id=after_id, limit=limit
        )

    def clear(self) -> None:
        self._storage.execute("clear_requests")
