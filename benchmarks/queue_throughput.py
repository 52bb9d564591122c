"""No-op jobs a second with one run row an attempt, beside pgqueuer and procrastinate on the same server."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.figures import report
from benchmarks.scratch import Server, add_topics, server

WORKERS = Path(__file__).resolve().parent / "peer_workers"
ROUNDS = 5
CONCURRENCY, PREFETCH = 8, 2000
JOBS = 60_000
PGQUEUER_JOBS, PGQUEUER_BATCHES = 20_000, (100, 500)
PROCRASTINATE_JOBS, PROCRASTINATE_CONCURRENCY = 1_500, 30


def main() -> None:
    """Interleaves the three, `ROUNDS` times; each drains a queue that was filled before."""
    python = peers.python()
    ours: list[float] = []
    pgqueuer: dict[int, list[float]] = {batch: [] for batch in PGQUEUER_BATCHES}
    procrastinate: list[float] = []
    with server() as running:
        peer_url = running.new_database(migrated=False).url
        for _ in range(ROUNDS):
            ours.append(drain_ours(running, JOBS, CONCURRENCY, PREFETCH, 0)["rate"])
            for batch in PGQUEUER_BATCHES:
                pgqueuer[batch].append(
                    peer_rate(python, "pgqueuer_worker.py", peer_url, PGQUEUER_JOBS, batch, 0, 0)
                )
            procrastinate.append(
                peer_rate(
                    python,
                    "procrastinate_worker.py",
                    peer_url,
                    PROCRASTINATE_JOBS,
                    PROCRASTINATE_CONCURRENCY,
                    0,
                )
            )
    better = max(PGQUEUER_BATCHES, key=lambda batch: statistics.median(pgqueuer[batch]))
    samples = {"ours": ours, "pgqueuer": pgqueuer, "procrastinate": procrastinate}
    rate = statistics.median(ours)
    to_pgqueuer = statistics.median(a / b for a, b in zip(ours, pgqueuer[better], strict=True))
    to_procrastinate = statistics.median(a / b for a, b in zip(ours, procrastinate, strict=True))
    name = f"no-op jobs, one process, --concurrency {CONCURRENCY} --prefetch {PREFETCH}"
    report(name, rate, "jobs/s", bar="≥ 20,000/s", met=rate >= 20_000, samples=samples)
    report(
        f"{name}, beside pgqueuer batch {better}",
        rate,
        "jobs/s",
        ratio=to_pgqueuer,
        against="pgqueuer 1.6",
        bar="≥ 2 ×",
        met=to_pgqueuer >= 2,
        samples=samples,
    )
    report(
        f"{name}, beside procrastinate",
        rate,
        "jobs/s",
        ratio=to_procrastinate,
        against=f"procrastinate 3.10, concurrency {PROCRASTINATE_CONCURRENCY}",
        bar="≥ 40 ×",
        met=to_procrastinate >= 40,
        samples=samples,
    )


def drain_ours(
    running: Server, jobs: int, concurrency: int, prefetch: int, sleep_seconds: float
) -> dict[str, Any]:
    """What one worker process says of draining a fresh database."""
    database = running.new_database()
    add_topics(database, jobs)
    answer = run_json(
        [sys.executable, "-m", "benchmarks.drain", database.url]
        + [str(value) for value in (concurrency, prefetch, sleep_seconds)]
    )
    with database.transaction() as transaction:
        runs = transaction.value("SELECT count(*) FROM job_runs WHERE status = 'completed'")
    assert answer["status"] == 0
    assert runs == jobs, f"{runs} of {jobs} runs recorded"
    return answer


def peer_rate(python: Path, worker: str, *arguments: Any) -> float:
    return float(run_json([python, WORKERS / worker, *map(str, arguments)])["rate"])


def run_json(command: list[Any]) -> dict[str, Any]:
    """What a measuring process prints as its last line."""
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    answer: dict[str, Any] = json.loads(finished.stdout.strip().splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
