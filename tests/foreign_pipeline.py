"""Pipelines that are not ours, with their mapping files: other names, other keys, other words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from runbook_lib.database.connection import Database
from runbook_lib.settings import Settings

NewDatabase = Callable[..., Database]

# Two days of history. Of the jobs: 3 wait, 2 run (one since two hours), 40 are done, 5 failed, 1 was cancelled.
_UUID_KEYS = """
    CREATE SCHEMA press;
    CREATE TABLE press.orders (
        uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(), headline varchar(200), section text, state text NOT NULL,
        failure text, tries smallint DEFAULT 0, ordered timestamptz NOT NULL, picked_up timestamptz, done timestamptz);
    CREATE INDEX ON press.orders (state);
    CREATE TABLE press.attempts (
        attempt_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_uuid uuid NOT NULL REFERENCES press.orders,
        outcome text NOT NULL, began timestamptz, ended timestamptz, message text);
    CREATE INDEX ON press.attempts (ended);
    CREATE INDEX ON press.attempts (order_uuid);
    INSERT INTO press.orders (headline, section, state, failure, tries, ordered, picked_up, done)
    SELECT 'Headline ' || n, CASE WHEN n % 2 = 0 THEN 'News' END, w.state,
        CASE WHEN w.state = 'broken' THEN 'Rate limit exceeded for org-' || n END, n % 4,
        now() - n * interval '50 minutes',
        CASE WHEN w.state <> 'in tray' THEN now() - n * interval '50 minutes' + interval '1 minute' END,
        CASE WHEN w.state IN ('printed', 'broken') THEN now() - n * interval '50 minutes' + interval '3 minutes' END
    FROM generate_series(1, 51) AS n
    CROSS JOIN LATERAL (SELECT CASE WHEN n = 4 OR n = 5 THEN 'at the desk' WHEN n <= 3 THEN 'in tray'
        WHEN n = 6 THEN 'withdrawn' WHEN n % 9 = 0 THEN 'broken' ELSE 'printed' END AS state) AS w;
    INSERT INTO press.attempts (order_uuid, outcome, began, ended, message)
    SELECT uuid, CASE state WHEN 'printed' THEN 'fine' WHEN 'broken' THEN 'bad' ELSE 'begun' END, picked_up, done, failure
    FROM press.orders
    WHERE picked_up IS NOT NULL;
"""
_UUID_MAPPING = """
    [jobs]
    schema = "press"
    table = "orders"
    [jobs.columns]
    job_id = "uuid"
    topic = "headline"
    category = "section"
    status = "state"
    last_error = "failure"
    retry_count = "tries"
    created_at = "ordered"
    started_at = "picked_up"
    completed_at = "done"
    [jobs.statuses]
    pending = ["in tray"]
    processing = ["at the desk"]
    completed = ["printed"]
    error = ["broken"]
    left_out = ["withdrawn"]
    [runs]
    schema = "press"
    table = "attempts"
    [runs.columns]
    job_id = "order_uuid"
    status = "outcome"
    execution_time = "ended"
    started_at = "began"
    completed_at = "ended"
    error = "message"
    [runs.statuses]
    completed = ["fine"]
    error = ["bad"]
    left_out = ["begun"]
"""
# The fewest columns that there can be.
_BARE_MAPPING = """
    [jobs]
    schema = "press"
    table = "orders"
    columns = { job_id = "uuid", status = "state" }
    statuses = { pending = ["in tray"], processing = ["at the desk"], completed = ["printed"], error = ["broken"], left_out = ["withdrawn"] }
    [runs]
    schema = "press"
    table = "attempts"
    columns = { execution_time = "ended", status = "outcome" }
    statuses = { completed = ["fine"], error = ["bad"], left_out = ["begun"] }
"""
# Times without time zone, written in Berlin; the history's key is an integer, the jobs' a bigint; names
# and words that have to be quoted.
_BIGINT_KEYS = """
    CREATE TYPE "Phase" AS ENUM ('new', 'it''s running', '100% done', 'failed', 'needs "review"');
    CREATE TABLE "Blog %s tasks" (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, "the ""phase"" of it" "Phase", "err\\msg" text,
        created timestamp NOT NULL, updated timestamp);
    CREATE TABLE task_log (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task integer, result varchar(20), at timestamp,
        seconds numeric, tokens bigint);
    INSERT INTO "Blog %s tasks" (title, "the ""phase"" of it", "err\\msg", created, updated)
    SELECT 'Title ' || n, (ARRAY['new', 'it''s running', '100% done', 'failed', 'needs "review"'])[1 + n % 5]::"Phase",
        CASE WHEN n % 5 = 3 THEN 'timeout' END, timestamp '2026-07-01 12:00' + n * interval '1 hour',
        timestamp '2026-07-01 12:30' + n * interval '1 hour'
    FROM generate_series(1, 50) AS n;
    INSERT INTO task_log (task, result, at, seconds, tokens)
    SELECT id, CASE WHEN id % 5 = 3 THEN 'failed' ELSE 'ok' END, updated, 1.5, 100 FROM "Blog %s tasks" WHERE id % 5 IN (2, 3);
"""
_BIGINT_MAPPING = r"""
    [jobs]
    table = "Blog %s tasks"
    timezone = "Europe/Berlin"
    [jobs.columns]
    job_id = "id"
    topic = "title"
    status = "the \"phase\" of it"
    last_error = "err\\msg"
    created_at = "created"
    [jobs.statuses]
    pending = ["new"]
    processing = ["it's running"]
    completed = ["100% done"]
    error = ["failed"]
    left_out = ["needs \"review\""]
    [runs]
    table = "task_log"
    timezone = "Europe/Berlin"
    [runs.columns]
    job_id = "task"
    status = "result"
    execution_time = "at"
    tokens = "tokens"
    [runs.statuses]
    completed = ["ok"]
    error = ["failed"]
"""
# No history: the runs are the jobs' last attempts. The key is a text.
_NO_HISTORY = """
    CREATE TABLE article_queue (
        slug text PRIMARY KEY, status text, last_error text, retries integer, inserted_at timestamptz DEFAULT now(),
        finished_at timestamptz);
    INSERT INTO article_queue
    SELECT 'slug-' || n, (ARRAY['queued', 'done', 'dead'])[1 + n % 3], CASE WHEN n % 3 = 2 THEN 'boom' END, n % 2,
        now() - n * interval '1 hour', CASE WHEN n % 3 > 0 THEN now() - n * interval '50 minutes' END
    FROM generate_series(1, 30) AS n;
"""
_NO_HISTORY_MAPPING = """
    [jobs]
    table = "article_queue"
    [jobs.columns]
    job_id = "slug"
    status = "status"
    last_error = "last_error"
    retry_count = "retries"
    created_at = "inserted_at"
    completed_at = "finished_at"
    [jobs.statuses]
    pending = ["queued"]
    completed = ["done"]
    error = ["dead"]
"""


@dataclass(frozen=True)
class Shape:
    """Their tables with rows, and the mapping file for them."""

    tables: str
    mapping: str

    def make(self, new_database: NewDatabase) -> Database:
        """A database with their tables."""
        database = new_database(migrated=False)
        with database.transaction() as transaction:
            transaction.run(self.tables.replace("%", "%%"))
        return database

    def write_mapping(self, directory: Path) -> Path:
        file = directory / "mapping.toml"
        file.write_text(self.mapping, "utf-8")
        return file


UUID_KEYS = Shape(_UUID_KEYS, _UUID_MAPPING)
BARE = Shape(_UUID_KEYS, _BARE_MAPPING)
BIGINT_KEYS = Shape(_BIGINT_KEYS, _BIGINT_MAPPING)
NO_HISTORY = Shape(_NO_HISTORY, _NO_HISTORY_MAPPING)
SHAPES = {"uuid keys": UUID_KEYS, "bigint keys": BIGINT_KEYS, "no history": NO_HISTORY}


def attached_settings(
    theirs: Database, shape: Shape, directory: Path, bookkeeping: Database | None = None
) -> Settings:
    """Settings for their pipeline; without a database for our own tables these go to the embedded one."""
    return Settings(
        database_url=theirs.url,
        runbook_mapping=shape.write_mapping(directory),
        runbook_database_url=bookkeeping.url if bookkeeping else None,
        runbook_home=directory / "home",
    )


def as_role(database: Database, role: str) -> str:
    """The address of a database for another role, whose password is its name."""
    parts = urlsplit(database.url)
    return f"postgresql://{role}:{role}@{parts.hostname}:{parts.port}{parts.path}"
