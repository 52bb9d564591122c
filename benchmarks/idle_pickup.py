"""From the insert of a job to the start of its handler in an idle worker on one host, beside a bare claim."""

from __future__ import annotations

import queue
import select
import threading
import time

import psycopg2

from benchmarks.figures import percentile, report
from benchmarks.scratch import server
from runbook_lib.database.connection import Database
from runbook_lib.database.statements import load
from runbook_lib.pipeline.attempt import Attempt, Completed
from runbook_lib.pipeline.jobs import notify_workers
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.pipeline.worker import Worker

SAMPLES = 600
PAUSE_SECONDS = 0.02


def main() -> None:
    """Ours and the bare claim in turns of 50, on one server; times are from before the insert."""
    ours: list[float] = []
    bare: list[float] = []
    with server() as running:
        our_database, bare_database = running.new_database(), running.new_database()
        started: queue.SimpleQueue[float] = queue.SimpleQueue()

        def handle(_: Attempt) -> Completed:
            started.put(time.monotonic())
            return Completed()

        worker = Worker(our_database, handle, WorkerOptions(), Reporter())
        thread = threading.Thread(target=worker.run, kwargs={"install_signals": False}, daemon=True)
        thread.start()
        time.sleep(2)
        with our_database.connect() as connection:
            for _ in range(SAMPLES // 50):
                for _ in range(50):
                    time.sleep(PAUSE_SECONDS)
                    begun = time.monotonic()
                    with connection.transaction() as transaction:
                        transaction.run("INSERT INTO content_jobs (topic) VALUES ('A topic')")
                        notify_workers(transaction)
                    ours.append(started.get() - begun)
                bare.extend(bare_claims(bare_database, 50))
        worker.stop()
        thread.join()
    p99, bare_p99 = percentile(ours, 99) * 1000, percentile(bare, 99) * 1000
    report(
        "idle pick-up, insert to start, p99",
        p99,
        "ms",
        ratio=p99 / bare_p99,
        against="a bare insert + NOTIFY + claim",
        bar="≤ 5 ms, or ≤ 2 × the bare one",
        met=p99 <= 5 or p99 <= 2 * bare_p99,
        samples={"ours": ours, "bare": bare},
    )
    report("idle pick-up, insert to start, p50", percentile(ours, 50) * 1000, "ms", samples=ours)


def bare_claims(database: Database, count: int) -> list[float]:
    """A listener that claims one row with SKIP LOCKED when notified, and nothing else."""
    claimed: queue.SimpleQueue[float] = queue.SimpleQueue()
    listener = psycopg2.connect(database.url)
    listener.autocommit = True
    with listener.cursor() as cursor:
        cursor.execute("LISTEN content_jobs")

    def listen() -> None:
        for _ in range(count):
            select.select([listener], [], [])
            listener.poll()
            listener.notifies.clear()
            with listener.cursor() as cursor:
                cursor.execute(
                    "UPDATE content_jobs SET status = 'processing', attempt = attempt + 1, worker = 'bare', "
                    "lease_until = now() WHERE job_id = "
                    "(SELECT job_id FROM content_jobs WHERE status = 'pending' LIMIT 1 FOR UPDATE SKIP LOCKED)"
                )
            claimed.put(time.monotonic())

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    seconds = []
    with database.connect() as connection:
        for _ in range(count):
            time.sleep(PAUSE_SECONDS)
            begun = time.monotonic()
            with connection.transaction() as transaction:
                transaction.run("INSERT INTO content_jobs (topic) VALUES ('A topic')")
                transaction.run(load("jobs")["notify_workers"])
            seconds.append(claimed.get() - begun)
    thread.join()
    listener.close()
    return seconds


if __name__ == "__main__":
    main()
