"""A daily cap of $1 with an endless queue: spent at most $1 and one call a slot, jobs pending uncharged, one event."""

from __future__ import annotations

from benchmarks.figures import report
from benchmarks.pipeline_scene import Scene
from benchmarks.scratch import server
from runbook_lib import sandbox

CONCURRENCY = 8
JOBS = 2_000
PRICES = '{"gpt-4o-mini": {"input_usd_per_million": 10, "output_usd_per_million": 20}}'


def main() -> None:
    """Two workers of four slots each; an article costs about a cent or two."""
    with server() as running, sandbox.acquire(running.home) as site:
        scene = Scene(running.new_database(), site, running.home, RUNBOOK_MODEL_PRICES=PRICES)
        scene.add(JOBS)
        with scene.database.transaction() as transaction:
            transaction.run(
                "UPDATE provider_limits SET daily_cost_usd = 1 WHERE provider = 'openai'"
            )
        workers = [
            scene.start_worker("--until-empty", "--concurrency", str(CONCURRENCY // 2))
            for _ in range(2)
        ]
        for worker in workers:
            worker.wait(300)
        with scene.database.transaction() as transaction:
            row = transaction.row(
                "SELECT (SELECT cost_usd FROM provider_usage WHERE provider = 'openai')::float8 AS spent, "
                "(SELECT max(cost_usd) FROM job_runs)::float8 AS dearest, "
                "(SELECT count(*) FROM content_jobs WHERE status = 'pending') AS pending, "
                "(SELECT sum(retry_count) FROM content_jobs) AS charged, "
                "(SELECT count(*) FROM events WHERE kind = 'daily_cap_reached') AS events"
            )
        scene.end()
    assert row is not None
    most = 1 + CONCURRENCY * row.dearest
    report(
        "spent under a cap of $1",
        row.spent,
        "$",
        bar=f"≤ $1 + {CONCURRENCY} calls (${most:.2f})",
        met=1 <= row.spent <= most,
    )
    report("jobs left pending", row.pending, "jobs", bar="> 0", met=row.pending > 0)
    report("failures charged", row.charged, "failures", bar="0", met=row.charged == 0)
    report("events of the cap", row.events, "events", bar="1", met=row.events == 1)


if __name__ == "__main__":
    main()
