"""Drains jobs with pgqueuer and prints {"rate": jobs a second}: DSN, jobs, batch size, sleep seconds, tasks at once.

Runs in the peers' environment. The rate is (jobs - 1) / (last start - first start), without start-up.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode


async def measure(dsn: str, jobs: int, batch: int, sleep_seconds: float, tasks: int) -> float:
    connection = await asyncpg.connect(dsn)
    driver = AsyncpgDriver(connection)
    queries = Queries(driver)
    if await connection.fetchval("SELECT to_regclass('pgqueuer') IS NULL"):
        await queries.install()
    await connection.execute("TRUNCATE pgqueuer, pgqueuer_log")
    for first in range(0, jobs, 1000):
        count = min(1000, jobs - first)
        await queries.enqueue(["work"] * count, [b"topic"] * count, [0] * count)
    starts: list[float] = []
    queue = PgQueuer(driver)

    @queue.entrypoint("work")
    async def work(job: Job) -> None:
        starts.append(time.monotonic())
        if sleep_seconds:
            await asyncio.sleep(sleep_seconds)

    await queue.run(
        batch_size=batch,
        mode=QueueExecutionMode.drain,
        max_concurrent_tasks=tasks or None,
    )
    await connection.close()
    assert len(starts) == jobs, f"{len(starts)} of {jobs} ran"
    return (jobs - 1) / (max(starts) - min(starts))


if __name__ == "__main__":
    dsn, jobs, batch, sleep_seconds, tasks = sys.argv[1:6]
    rate = uvloop.run(measure(dsn, int(jobs), int(batch), float(sleep_seconds), int(tasks)))
    print(json.dumps({"rate": rate}))
