"""A pipeline with a past, for pictures and tests of the console: two days of attempts, failures, a queue.

Some texts are hostile: whatever stands in a row must stay a text on a page.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from runbook_lib.database import Database
from runbook_lib.pipeline.brakes import pause, set_limits

HOSTILE = (
    "<script>alert('topic')</script>",
    "\"><img src=x onerror=alert('attribute')>",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "invoice\u202egnp.exe \u2066hidden\u2069 \u200bzero\x1b[31mred\x07",
)
TOPICS = (
    "How to brew coffee at altitude", "Ten quiet walks near Lisbon", "Bread without kneading",
    "What a heat pump costs to run", "Choosing a first telescope", "Repairing a bicycle chain",
)  # fmt: skip
_FAILURES = (
    ("openai_overloaded", "openai", 503, "The server is currently overloaded. Please try again later."),
    ("wordpress_timeout", "wordpress", None, "No answer from the site within 30 s."),
    ("openai_rate_limited", "openai", 429, "Rate limit reached for gpt-4o-mini: limit 200000 tokens a minute."),
    ("wordpress_category_missing", "wordpress", 200, "The site has no category 'Gardening'."),
)  # fmt: skip
_ADD_JOB = """
INSERT INTO content_jobs (topic, category, status, stage, attempt, retry_count, last_error, error_class,
    created_at, updated_at, started_at, completed_at, worker, lease_until, run_at, post_id, post_url, post_status)
VALUES (%(topic)s, %(category)s, %(status)s, %(stage)s, %(attempt)s, %(retry_count)s, %(last_error)s, %(error_class)s,
    %(at)s, %(at)s, %(at)s, %(completed_at)s, %(worker)s, %(lease_until)s, %(run_at)s, %(post_id)s, %(post_url)s, %(post_status)s)
RETURNING job_id::text
"""
_ADD_RUN = """
INSERT INTO job_runs (job_id, attempt, status, execution_time, started_at, completed_at, worker, stage, charged,
    error, error_class, provider, http_status, model, tokens, cost_usd, write_seconds, publish_seconds)
VALUES (%(job_id)s::uuid, %(attempt)s, %(status)s, %(at)s, %(started_at)s, %(at)s, 'host-a:4711', %(stage)s, %(charged)s,
    %(error)s, %(error_class)s, %(provider)s, %(http_status)s, 'gpt-4o-mini', %(tokens)s, %(cost_usd)s, %(write)s, %(publish)s)
"""
_ADD_WORKER = """
INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, progress_at, in_flight, finished_count, failed_count)
VALUES ('host-a:4711', 'host-a', 4711, '1', 4, 0, now(), 2, 321, 12)
"""


def fill(database: Database, *, hours: int = 46, seed: int = 7) -> None:
    """Two days of work, with a bad hour in it."""
    dice, now = random.Random(seed), datetime.now(UTC)
    with database.transaction() as transaction:
        transaction.run(_ADD_WORKER)
        for ago in range(hours, -1, -1):
            if ago in (30, 31):
                continue  # nobody brought anything
            busy = (
                2
                + round(5 * dice.random())
                + (4 if 8 <= (now - timedelta(hours=ago)).hour <= 18 else 0)
            )
            for _ in range(busy):
                at = now - timedelta(hours=ago, minutes=dice.uniform(1, 55))
                failed = dice.random() < (0.55 if ago == 12 else 0.07)
                _past(transaction, dice, at, failed)
        for text in HOSTILE:
            _job(
                transaction,
                now,
                topic=text,
                category=text[:100],
                status="error",
                attempt=1,
                last_error=text,
                error_class="mystery",
            )
        for number in range(9):
            _job(
                transaction,
                now - timedelta(minutes=9 - number),
                topic=dice.choice(TOPICS),
                status="pending",
            )
        for stage in ("write", "publish"):
            _job(transaction, now, topic=dice.choice(TOPICS), status="processing", stage=stage, attempt=1,
                 worker="host-a:4711", lease_until=now + timedelta(minutes=5))  # fmt: skip
    set_limits(database, "openai", {"requests_per_minute": 120, "daily_cost_usd": 25}, actor="ana")
    pause(
        database,
        ["wordpress"],
        actor="ana",
        reason="The site's certificate is being renewed",
        until=now + timedelta(hours=2),
    )


def _past(transaction: Any, dice: random.Random, at: datetime, failed: bool) -> None:
    error_class, provider, status, text = dice.choice(_FAILURES)
    write, publish = dice.lognormvariate(2.2, 0.4), dice.lognormvariate(0.3, 0.5)
    final = failed and dice.random() < 0.4
    job_id = _job(
        transaction, at, topic=dice.choice(TOPICS), category=dice.choice(("Home", "Travel", "Science")),
        status="error" if final else "completed", attempt=2 if failed and not final else 1,
        retry_count=int(failed and not final), completed_at=None if final else at,
        last_error=text if failed else None, error_class=error_class if failed else None,
        post_id=None if final else dice.randrange(100, 9000),
        post_url=None if final else f"https://site.example/?p={dice.randrange(100, 9000)}", post_status=None if final else "publish",
    )  # fmt: skip
    run = {"job_id": job_id, "attempt": 1, "at": at, "started_at": at - timedelta(seconds=write + publish), "stage": "publish",
           "charged": False, "error": None, "error_class": None, "provider": None, "http_status": None, "tokens": 1500,
           "cost_usd": 0.002, "write": write, "publish": publish, "status": "completed"}  # fmt: skip
    if failed:
        transaction.run(_ADD_RUN, **{**run, "status": "error", "stage": "write", "charged": True, "error": text, "error_class": error_class,
                                     "provider": provider, "http_status": status, "at": at - timedelta(minutes=1)})  # fmt: skip
    if not final:
        transaction.run(_ADD_RUN, **{**run, "attempt": 2 if failed else 1})


def _job(transaction: Any, at: datetime, **values: Any) -> str:
    empty = dict.fromkeys(("category", "last_error", "error_class", "completed_at", "worker", "lease_until", "run_at",
                           "post_id", "post_url", "post_status"))  # fmt: skip
    whole = {**empty, "stage": "write", "attempt": 0, "retry_count": 0, "at": at, **values}
    found: str = transaction.value(_ADD_JOB, **whole)
    return found
