"""Pages that a claim's candidate scan touches: empty table, 5 M finished rows, 16,000 jobs under a held snapshot."""

from __future__ import annotations

import json
import os
import statistics
from typing import Any

from benchmarks.figures import report
from benchmarks.scratch import add_topics, server
from runbook_lib.database.connection import Connection, Database
from runbook_lib.database.statements import load
from runbook_lib.pipeline import jobs
from runbook_lib.pipeline.model import Job

SAMPLES = 50
FINISHED_ROWS = int(os.environ.get("FINISHED_ROWS", "5000000"))
HELD_JOBS = 16_000
BAR = 10
CLAIM = load("jobs")["claim_jobs"].text


def main() -> None:
    """The median of 50 claims of one job each, by EXPLAIN (ANALYZE, BUFFERS), rolled back."""
    with server() as running:
        database = running.new_database()
        add_topics(database, 1)
        tell("empty table, one job", measure(database, jobs.ClaimCursor()))
        fill_with_finished(database, FINISHED_ROWS)
        tell(f"{FINISHED_ROWS:,} finished rows", measure(database, jobs.ClaimCursor()))
        tell(
            f"after {HELD_JOBS:,} jobs under a held snapshot", measure_held(running.new_database())
        )


def tell(name: str, buffers: list[int]) -> None:
    value = statistics.median(buffers)
    report(
        f"buffers of the candidate scan: {name}",
        value,
        "pages",
        bar=f"≤ {BAR}",
        met=value <= BAR,
        samples=buffers,
    )


def measure(database: Database, cursor: jobs.ClaimCursor) -> list[int]:
    """Pages touched by both candidate scans of a claim that finds one job."""
    with database.connect() as connection:
        return [candidate_pages(connection, cursor) for _ in range(SAMPLES)]


def candidate_pages(connection: Connection, cursor: jobs.ClaimCursor) -> int:
    write_after, publish_after = cursor.after("write"), cursor.after("publish")
    pages = 0
    try:
        with connection.transaction() as transaction:
            plan = transaction.value(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + CLAIM,
                worker="benchmark",
                count=1,
                write_count=1,
                publish_count=1,
                write_after_priority=write_after[0],
                write_after_job_id=write_after[1],
                publish_after_priority=publish_after[0],
                publish_after_job_id=publish_after[1],
                lease_seconds=30,
                topic_characters=100,
            )
            pages = scanned_pages(plan if isinstance(plan, list) else json.loads(plan))
            raise RollBack
    except RollBack:
        return pages


class RollBack(Exception):
    """Undoes the claim that was measured."""


def scanned_pages(plan: list[dict[str, Any]]) -> int:
    """Pages of the index scans below the two candidate lists, locking left out."""
    found = 0

    def walk(node: dict[str, Any], inside: bool) -> None:
        nonlocal found
        inside = inside or node.get("Subplan Name", "").startswith("CTE ")
        if inside and node["Node Type"].endswith("Scan") and "Relation Name" in node:
            found += node["Shared Hit Blocks"] + node["Shared Read Blocks"]
            return
        for child in node.get("Plans", []):
            walk(child, inside)

    walk(plan[0]["Plan"], False)
    return found


def fill_with_finished(database: Database, count: int) -> None:
    for _ in range(0, count, 500_000):
        with database.transaction(deadline_seconds=900) as transaction:
            transaction.run(
                "INSERT INTO content_jobs (topic, status, attempt, completed_at) "
                "SELECT 'Topic ' || number, 'completed', 1, now() FROM generate_series(1, %(count)s) AS number",
                count=min(count, 500_000),
            )
    with database.connect() as connection, connection.raw.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE content_jobs")


def measure_held(database: Database) -> list[int]:
    """Drains jobs by 10 while another session holds a snapshot, then measures where the cursor stands."""
    add_topics(database, HELD_JOBS + SAMPLES)
    cursor = jobs.ClaimCursor()
    with database.connect() as holder, database.connect() as connection:
        with holder.raw.cursor() as held:
            held.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            held.execute("SELECT count(*) FROM content_jobs")
        for _ in range(HELD_JOBS // 10):
            with connection.transaction() as transaction:
                finish(transaction, claim(transaction, cursor, 10))
        return [candidate_pages(connection, cursor) for _ in range(SAMPLES)]


def claim(transaction: Any, cursor: jobs.ClaimCursor, count: int) -> list[Job]:
    claimed = jobs.claim(
        transaction,
        cursor,
        worker="benchmark",
        count=count,
        write_count=count,
        publish_count=count,
        lease_seconds=30,
        topic_characters=100,
    )
    cursor.advance(claimed)
    return claimed


def finish(transaction: Any, claimed: list[Job]) -> None:
    transaction.run(
        "UPDATE content_jobs SET status = 'completed', completed_at = now(), worker = NULL, lease_until = NULL "
        "WHERE job_id = ANY (%(ids)s::uuid[])",
        ids=[job.job_id for job in claimed],
    )


if __name__ == "__main__":
    main()
