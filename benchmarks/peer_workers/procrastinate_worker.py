"""Drains jobs with procrastinate and prints {"rate": jobs a second}: DSN, jobs, concurrency, sleep seconds.

Runs in the peers' environment. The rate is (jobs - 1) / (last start - first start), without start-up.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import procrastinate


async def measure(dsn: str, jobs: int, concurrency: int, sleep_seconds: float) -> float:
    connector = procrastinate.PsycopgConnector(
        conninfo=dsn, min_size=concurrency, max_size=concurrency
    )
    app = procrastinate.App(connector=connector)
    starts: list[float] = []

    @app.task(name="work")
    async def work() -> None:
        starts.append(time.monotonic())
        if sleep_seconds:
            await asyncio.sleep(sleep_seconds)

    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        await connector.execute_query_async("TRUNCATE procrastinate_jobs CASCADE")
        await work.batch_defer_async(*[{} for _ in range(jobs)])
        await app.run_worker_async(
            wait=False, concurrency=concurrency, install_signal_handlers=False
        )
    assert len(starts) == jobs, f"{len(starts)} of {jobs} ran"
    return (jobs - 1) / (max(starts) - min(starts))


if __name__ == "__main__":
    dsn, jobs, concurrency, sleep_seconds = sys.argv[1:5]
    rate = asyncio.run(measure(dsn, int(jobs), int(concurrency), float(sleep_seconds)))
    print(json.dumps({"rate": rate}))
